"""Data sets as environments."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.environments.dataset.environment import ComparingDataset, Dataset
from steadyrl.environments.dataset.settings import DatasetSettings
from steadyrl.environments.protocol import Environment, Outcome, Split, SupportsGroupScores, Task
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group, Trajectory
from tests.environments.dataset import reward_functions
from tests.environments.dataset.attempts import waited_for

OWN = reward_functions.__name__
ODD = "frage;loesung\n" + "".join(f"Was ist {n}+{n}?;{2 * n}\n" for n in range(60))


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(ODD)
    return path


Make = Any


@pytest.fixture
def make(csv: Path) -> Iterator[Make]:
    made: list[Dataset] = []

    def make_one(rewards: Any = "exact", **changes: Any) -> Dataset:
        columns = {"prompt": "frage", "answer": "loesung"}
        values = {"path": str(csv), "columns": columns, "rewards": rewards, **changes}
        made.append(DatasetSettings.model_validate(values).make())
        return made[-1]

    yield make_one
    for environment in made:
        environment.close()


def outcome_of(environment: Environment, task: Task, text: str) -> Outcome:
    outcome: Outcome = waited_for(environment.start(task).respond(text))
    return outcome


def test_a_solution_is_known_even_if_no_reward_reads_it(make: Make) -> None:
    for reward in ("exact", f"{OWN}:trl_length"):
        environment = make(reward)
        task = environment.task(Split.TRAIN, 0)
        assert environment.solution(task) == (str(task.payload.columns["loesung"]),)


def test_each_row_is_a_task_for_good(make: Make) -> None:
    first, second = make(), make()
    assert isinstance(first, Environment)
    for split in Split:
        count = first.distinct_tasks(split)
        tasks = [first.task(split, number) for number in range(count)]
        assert tasks == [second.task(split, number + count) for number in range(count)]
        assert len({task.id for task in tasks}) == count > 0
    assert sum(first.distinct_tasks(split) for split in Split) == 60
    task = first.task(Split.TRAIN, 0)
    assert task.id.startswith("dataset/train/")
    assert task.prompt[0].content.startswith("Was ist")


def test_a_right_answer_earns_its_reward(make: Make) -> None:
    environment = make()
    task = environment.task(Split.TEST, 0)
    right = task.payload.columns["loesung"]
    good, bad = (outcome_of(environment, task, text) for text in (f" {right}\n", "no"))
    assert (good.reward, good.terminated, good.feedback) == (1, True, "the answer is right")
    assert (bad.reward, bad.reward_parts, bad.feedback) == (0, {"exact": 0}, "the answer is wrong")


def test_the_answer_is_cut_as_other_environments_cut_it(make: Make) -> None:
    environment = make(answer_format="boxed", system="Rechne.")
    task = environment.task(Split.TRAIN, 0)
    right = task.payload.answer
    assert [message.role for message in task.prompt] == ["system", "user"]
    assert task.prompt[1].content.endswith("\n\nPut your final answer in \\boxed{}.")
    assert outcome_of(environment, task, rf"So \boxed{{{right}}}").reward == 1
    nothing = outcome_of(environment, task, right)
    assert (nothing.reward, nothing.feedback) == (0, "no answer was found in the answer format")
    thought = rf"<think>\boxed{{{right}}}</think>"
    assert outcome_of(environment, task, thought).reward == 0


def test_several_rewards_are_weighed_and_each_is_told_apart(make: Make) -> None:
    rewards = ["math", {"name": "length", "max_length": 3, "weight": -0.5, "label": "long"}]
    environment = make(rewards)
    task = environment.task(Split.TRAIN, 0)
    outcome = outcome_of(environment, task, f"{task.payload.answer}.0")
    assert outcome.reward == 0.5
    assert outcome.reward_parts == {"math": 1, "long": 1}
    assert outcome.feedback == "math: the answer is right; long: the response has the right length"


def test_rewards_of_one_answer_are_called_at_once(make: Make) -> None:
    environment = make([{"name": f"{OWN}:alone"}, {"name": f"{OWN}:never", "timeout": 60.0}][:1])
    task = environment.task(Split.TRAIN, 0)
    assert outcome_of(environment, task, task.payload.columns["loesung"]).reward == 1
    assert outcome_of(environment, task, "x").reward_parts == {"alone": 0}


def trajectory(task: Task, text: str, *, earned: float = 0.0, cut: bool = False) -> Trajectory:
    reason = FinishReason.LENGTH if cut else FinishReason.STOP
    ids = torch.arange(len(text) + 1)
    return Trajectory(
        task_id=task.id,
        messages=(*task.prompt, Message(role="assistant", content=text)),
        completions=(
            Completion(
                prompt_ids=torch.tensor([1]),
                token_ids=ids,
                logprobs=torch.zeros(len(ids)),
                finish_reason=reason,
                policy_version=0,
            ),
        ),
        reward=earned,
        reward_parts={} if cut else {"exact": earned},
        terminated=not cut,
        truncated=cut,
    )


def scored(environment: ComparingDataset, *trajectories: Trajectory) -> Sequence[Outcome | None]:
    group = Group(task_id=trajectories[0].task_id, trajectories=trajectories)
    outcomes: Sequence[Outcome | None] = waited_for(environment.score_group(group))
    return outcomes


def test_functions_of_trl_get_all_answers_to_a_prompt_at_once(make: Make) -> None:
    rank, ids = (f"{OWN}:trl_rank", {"name": f"{OWN}:trl_ids", "weight": 0.25})
    environment = make(["exact", rank, ids])
    task = environment.task(Split.TRAIN, 0)
    assert outcome_of(environment, task, task.payload.answer).reward_parts == {"exact": 1}
    outcomes = scored(
        environment,
        trajectory(task, "22", earned=1.0),
        trajectory(task, "4444"),
        trajectory(task, "666666", cut=True),  # it is no whole answer: nobody is compared with it
    )
    assert [outcome and outcome.reward for outcome in outcomes] == [1 + 0.75, 1 + 1.25, 0]
    parts = [outcome and outcome.reward_parts for outcome in outcomes]
    assert parts[0] == {"exact": 1, "trl_rank": 0, "trl_ids": 3}
    assert parts[2] == {}


def test_only_rewards_that_compare_wait_for_the_group(make: Make) -> None:
    assert not isinstance(make(["exact", f"{OWN}:alone"]), SupportsGroupScores)
    assert isinstance(make(f"{OWN}:trl_length"), SupportsGroupScores)


def test_a_response_to_which_no_reward_applies_is_no_data(make: Make) -> None:
    environment = make(f"{OWN}:trl_some")
    task = environment.task(Split.TRAIN, 0)
    without = [trajectory(task, text) for text in ("skip", "x")]
    without = [Trajectory(**{**_fields(t), "reward_parts": {}}) for t in without]
    assert [o and o.reward for o in scored(environment, *without)] == [None, 1]
    alone = make({"name": f"{OWN}:maybe"})
    with pytest.raises(UserError, match="no reward applies to the response: each returned None"):
        outcome_of(alone, alone.task(Split.TRAIN, 0), "skip")


def _fields(trajectory: Trajectory) -> dict[str, Any]:
    return {name: getattr(trajectory, name) for name in Trajectory.__dataclass_fields__}


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (f"{OWN}:raises", r":raises failed: KeyError: 'solution' \(.*reward_functions\.py:\d+\)"),
        (f"{OWN}:trl_messages", r":trl_messages failed: TypeError: string ind.*set conversational"),
        (f"{OWN}:trl_column", r":trl_column takes ground_truth, but the dataset has the columns"),
        ({"name": f"{OWN}:returns", "options": {"value": ["1", "1"]}}, r"the reward is '1'"),
        ({"name": f"{OWN}:returns", "options": {"value": [1]}}, r"1 rewards for 2 completions"),
        ({"name": "choice"}, r"^line 2 of .*mine\.csv: the answer is the number 0; set"),
    ],
)
def test_rewards_that_cannot_work_are_refused_before_the_run(
    make: Make, rewards: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(rewards)


def test_the_splits_of_a_folder_are_its_own(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{number}", "answer": number} for number in range(9)]
    for name, part in (("train", rows[:5]), ("test", rows[3:])):
        text = "\n".join(json.dumps(row) for row in part)
        (tmp_path / f"{name}.jsonl").write_text(text)
    settings = DatasetSettings.model_validate({"path": str(tmp_path), "rewards": "exact"})
    environment = settings.make()
    assert environment.distinct_tasks(Split.TEST) == 6
    assert (
        environment.distinct_tasks(Split.TRAIN) + environment.distinct_tasks(Split.VALIDATION) == 3
    )
    assert environment.notes == (
        "2 rows of the dataset were dropped because their prompts are also in a held-out split.",
    )
    assert environment.task(Split.TEST, 0).id == "dataset/test/1"
    same = settings.model_copy(
        update={"splits": settings.splits.model_copy(update={"test": "train"})}
    )
    with pytest.raises(UserError, match=r"The split 'train' of .* is both train and test"):
        same.make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": []}, "rewards"),
        ({"rewards": "maths"}, r"unknown name, got 'maths'\. Did you mean 'math'\?"),
        ({"rewards": ["exact", "exact"]}, "two rewards are named 'exact'"),
        ({"rewards": {"name": "exact", "weight": 0}}, "every reward has the weight 0"),
        ({"template": "What?"}, "has no column in braces"),
        ({"template": "{q!r}"}, "Write {column}"),
        ({"answer_pattern": "####"}, r"'####' has 0 groups\. Put the answer into one"),
        ({"answer_pattern": "("}, "is not a regular expression"),
        ({"columns": {"question": "q"}}, "columns.question"),
        ({"splits": {"held_out": 0.5}}, "held_out"),
        ({"path": ""}, "path"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetSettings.model_validate({"path": "a.csv", "rewards": "exact", **changes})


def test_settings_come_back_as_they_were_written() -> None:
    rewards = ["math", {"name": f"{OWN}:maker", "options": {"limit": 2}, "weight": 0.5}]
    settings = DatasetSettings.model_validate({"path": "a.csv", "rewards": rewards})
    assert DatasetSettings.model_validate(settings.model_dump(mode="json")) == settings
