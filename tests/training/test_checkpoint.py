"""A checkpoint holds the learner to the bit, is read by Transformers, and shows damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from steadyrl.base.errors import NonFiniteError, UserError
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpoint import (
    drop_old_checkpoints,
    latest_checkpoint,
    load_checkpoint,
    read_place,
    save_checkpoint,
    weights_digest,
    whole_checkpoints,
)
from steadyrl.training.stage import RunPosition
from tests.learners.small import (
    TINY_MOE,
    largest_difference,
    made_up_batch,
    step,
    tiny_learner,
    trained,
    weights_of,
)
from tests.training.damage import cut_off, empty, flip_a_bit

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loaded_learner_goes_on_to_the_same_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    learner = trained(dtype)
    save_checkpoint(tmp_path / "rl-000002", learner, RunPosition(stage=1, step=2))
    loaded = tiny_learner(dtype=dtype)
    place = load_checkpoint(tmp_path / "rl-000002", loaded)

    assert place == RunPosition(stage=1, step=2)
    assert loaded.policy_version == learner.policy_version == 2
    for _ in range(2):
        assert largest_difference(weights_of(loaded), weights_of(learner)) == 0
        assert largest_difference(loaded.optimizer.state(), learner.optimizer.state()) == 0
        for each in (loaded, learner):
            step(each, made_up_batch(seed=3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_transformers_loads_a_checkpoint_with_identical_logits(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    learner = trained(dtype)
    save_checkpoint(tmp_path / "model", learner, RunPosition())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokens = made_up_batch().tokens
    with torch.no_grad():
        logits, expected = model(tokens).logits, learner.policy.model(tokens).logits
    messages = [{"role": "user", "content": "3+4-2="}]
    prompts = [
        each.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for each in (tokenizer, learner.policy.tokenizer)
    ]

    assert model.dtype == dtype
    assert torch.equal(logits, expected)
    assert prompts[0] == prompts[1]
    assert tokenizer(prompts[0])["input_ids"] == learner.policy.tokenizer(prompts[1])["input_ids"]


def test_a_bfloat16_learner_takes_over_a_float32_checkpoint(saved: Path) -> None:
    learner = tiny_learner(dtype=torch.bfloat16, rounding="nearest")
    with torch.no_grad():
        for weight in learner.policy.model.parameters():
            weight.zero_()
    load_checkpoint(saved, learner)
    expected = {name: w.bfloat16() for name, w in weights_of(trained()).items()}
    assert largest_difference(weights_of(learner), expected) == 0
    masters = learner.optimizer.masters
    assert all(torch.equal(masters[name], w) for name, w in weights_of(trained()).items())


def test_saving_and_loading_draw_no_progress_bar(
    saved: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert logging.is_progress_bar_enabled()
    learner = tiny_learner()
    load_checkpoint(saved, learner)
    save_checkpoint(tmp_path / "rl-000001", learner, RunPosition())

    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


# Damage.


FILES = ["model.safetensors", "trainer_state.safetensors", "config.json", "tokenizer.json"]


@pytest.mark.parametrize("file", [*FILES, "place.json"])
@pytest.mark.parametrize("harm", [cut_off, flip_a_bit, empty, Path.unlink])
def test_a_damaged_file_is_refused_with_a_remedy(
    saved: Path, tmp_path: Path, file: str, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "rl-000004"
    shutil.copytree(saved, path)
    harm(path / file)
    learner = tiny_learner()
    before = weights_of(learner)

    with pytest.raises(UserError) as refusal:
        load_checkpoint(path, learner)
    message = str(refusal.value)
    assert f"The checkpoint {path} is damaged: " in message
    # A flip in place.json may hit the checksum of another file, which is then the one blamed.
    assert f"damaged: {file} " in message or file == "place.json"
    assert "Remove that folder; the run then resumes from the checkpoint before it" in message
    assert largest_difference(weights_of(learner), before) == 0
    assert learner.policy_version == 0


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("[]", "cannot be read"),
        ('{"stage": 1, "step": 4, "policy_version": 2}', "cannot be read"),
        ('{"stage": 1, "step": 4, "policy_version": 2, "sha256": {}}', "cannot be read"),
        ('{"stage": null, "step": 4, "policy_version": 2, "sha256": {"place.json": ""}}', "read"),
    ],
)
def test_a_place_that_was_not_written_by_us_is_refused(
    tmp_path: Path, written: str, reason: str
) -> None:
    (tmp_path / "place.json").write_text(written)

    with pytest.raises(UserError, match=rf"is damaged: place\.json .*{reason}"):
        read_place(tmp_path)


@pytest.mark.parametrize("number", ["stage", "step", "policy_version"])
def test_another_number_in_the_place_is_noticed(saved: Path, tmp_path: Path, number: str) -> None:
    path = tmp_path / "rl-000004"
    shutil.copytree(saved, path)
    content = json.loads((path / "place.json").read_text())
    content[number] += 1
    (path / "place.json").write_text(json.dumps(content))

    with pytest.raises(UserError, match=r"place\.json has changed since it was written"):
        load_checkpoint(path, tiny_learner())


def test_a_checkpoint_of_another_model_is_refused(saved: Path) -> None:
    settings = TINY_MOE.model_copy(update={"experts": 6})
    tokenizer = load_tokenizer(settings)
    policy = Policy(load_model(settings, tokenizer=tokenizer, seed=0), tokenizer)
    learner = LocalLearner(policy, LocalLearnerSettings(), replay=RoutingReplay.NONE)
    before = weights_of(learner)

    with pytest.raises(
        UserError, match=r"holds another model .* Resume a run with the configuration it began with"
    ):
        load_checkpoint(saved, learner)
    assert largest_difference(weights_of(learner), before) == 0


# Which checkpoints there are.


def folder_with(path: Path, names: list[str]) -> RunFolder:
    """A run folder with checkpoints of the places that `names` give, as STAGE-STEP."""
    folder = RunFolder(path)
    for name in names:
        stage, step_number = name.split("-")
        place = RunPosition(stage=["cold_start", "rl"].index(stage), step=int(step_number))
        save_checkpoint(folder.checkpoints / name, LEARNER, place)
    return folder


LEARNER = tiny_learner()


def test_the_latest_checkpoint_is_the_furthest_place_not_the_last_name(
    saved: Path, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, ["rl-000004", "cold_start-001400", "rl-000100"])

    assert latest_checkpoint(folder) == folder.checkpoints / "rl-000100"
    assert latest_checkpoint(RunFolder(tmp_path / "nothing")) is None


def test_what_is_no_checkpoint_is_not_taken_for_one(saved: Path, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ["rl-000004", "cold_start-001400"])
    (folder.checkpoints / "notes.txt").write_text("the good one is rl-000004")
    (folder.checkpoints / ".rl-000006.draft").mkdir()
    names = [path.name for path in whole_checkpoints(folder)]
    assert names == ["cold_start-001400", "rl-000004"]


def test_old_checkpoints_are_dropped_and_what_a_kill_left(saved: Path, tmp_path: Path) -> None:
    names = ["cold_start-000008", "cold_start-000009", "rl-000001", "rl-000002", "rl-000004"]
    folder = folder_with(tmp_path, names)
    for leftover in (".rl-000006.draft", ".cold_start-000003.doomed"):
        (folder.checkpoints / leftover).mkdir()
        (folder.checkpoints / leftover / "model.safetensors").write_text("half")
    foreign = {".DS_Store", ".git"}
    (folder.checkpoints / ".DS_Store").write_text("of a file manager")
    (folder.checkpoints / ".git").mkdir()
    drop_old_checkpoints(folder, keep=2)

    kept = {path.name for path in folder.checkpoints.iterdir()}
    assert kept == {"cold_start-000009", "rl-000002", "rl-000004"} | foreign


def test_a_tokenizer_with_several_chat_templates_is_saved_and_verified(tmp_path: Path) -> None:
    learner = tiny_learner()
    learner.policy.tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "tools"}
    path = tmp_path / "checkpoints" / "rl-000004"
    save_checkpoint(path, learner, RunPosition(stage=1, step=4))
    assert load_checkpoint(path, tiny_learner()) == RunPosition(stage=1, step=4)
    (template,) = (path / "additional_chat_templates").iterdir()
    template.write_text("other")
    with pytest.raises(UserError, match=rf"damaged: additional_chat_templates/{template.name}"):
        load_checkpoint(path, tiny_learner())


def test_a_draft_is_no_checkpoint_and_is_overwritten(saved: Path, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ["rl-000002"])
    draft = folder.checkpoints / ".rl-000004.draft"
    draft.mkdir()
    (draft / "place.json").write_text((saved / "place.json").read_text())
    (draft / "rubbish").write_text("half")

    assert latest_checkpoint(folder) == folder.checkpoints / "rl-000002"
    save_checkpoint(folder.checkpoints / "rl-000004", LEARNER, RunPosition(stage=1, step=4))
    assert not draft.exists()
    assert not (folder.checkpoints / "rl-000004" / "rubbish").exists()
    assert load_checkpoint(folder.checkpoints / "rl-000004", tiny_learner()).step == 4


def test_a_checkpoint_being_removed_when_killed_does_not_stand_in_the_way(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, ["rl-000002", "rl-000004"])
    remove = shutil.rmtree

    def killed_halfway(path: Path, ignore_errors: bool = False) -> None:
        if not Path(path).exists():
            return
        (Path(path) / "place.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed_halfway)
    with pytest.raises(KeyboardInterrupt):
        drop_old_checkpoints(folder, keep=1)
    monkeypatch.setattr(shutil, "rmtree", remove)

    assert latest_checkpoint(folder) == folder.checkpoints / "rl-000004"
    drop_old_checkpoints(folder, keep=1)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["rl-000004"]


def test_a_checkpoint_is_replaced_by_one_of_the_same_place(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "rl-000004"
    shutil.copytree(saved, path)
    (path / "rubbish").write_text("old")
    save_checkpoint(path, LEARNER, RunPosition(stage=1, step=4))

    assert not (path / "rubbish").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["rl-000004"]


def test_equal_weights_have_one_digest_and_others_another(tmp_path: Path) -> None:
    learner = tiny_learner()
    names = ("as-made", "later", "stepped")
    for name, place in zip(names, (0, 5, 5), strict=True):
        if name == "stepped":
            step(learner, made_up_batch(seed=3))
        save_checkpoint(tmp_path / name, learner, RunPosition(stage=1, step=place))
    first, later, stepped = (weights_digest(tmp_path / name) for name in names)
    assert first == later != stepped


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    learner = tiny_learner()
    with torch.no_grad():
        learner.policy.model.get_output_embeddings().weight[0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match=r"After update 0, lm_head\.weight is not finite\. No"):
        save_checkpoint(tmp_path / "broken", learner, RunPosition(stage=1, step=5))
    assert list(tmp_path.iterdir()) == []
