"""Generations on a tiny model: what is learned from, promoted, rolled back and resumed."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from steadyrl.engines.driver import drive
from steadyrl.gateway.recording import Feedback
from steadyrl.live.folder import open_live_folder, open_store
from steadyrl.live.loop import LiveLoop, served_of
from steadyrl.live.page import write_live_page
from steadyrl.live.records import Verdict
from steadyrl.live.settings import GateSettings, LiveConfig
from steadyrl.live.store import SessionStore
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.assembly import Assembly
from tests.live.sessions import UP, fill, stored, tiny_live

MOST = GateSettings(margin=1.0)


class Stop(BaseException):
    """Ends a loop as a kill would, at a note."""


@contextmanager
def opened(config: LiveConfig, path: Path, note: Callable[[str], None] = lambda text: None) -> Any:
    config = open_live_folder(config, path)
    folder = RunFolder(path)
    store, assembly = open_store(config, folder), Assembly.of(config.run)
    try:
        loop = LiveLoop(config, folder, store, assembly, note)
        drive(loop.begin())
        yield loop, store, assembly
    finally:
        assembly.close()
        store.close()


def weights(assembly: Assembly) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in assembly.learner.publish().tensors()}


def test_a_generation_learns_from_its_sessions_and_is_promoted(tmp_path: Path) -> None:
    with opened(tiny_live(tmp_path), tmp_path / "live") as (loop, store, assembly):
        before = weights(assembly)
        assert drive(loop.advance()) is None
        fill(store, list("abcdef"))

        found = drive(loop.advance())

        assert found.verdict is Verdict.PROMOTED
        assert found.numbers["sessions"] == 4
        assert found.numbers["texts"] == 2
        assert found.numbers["reward"] == 0.25  # a and d are corrected, b is right, c is not
        assert {"score", "served_score", "begun_score"} <= set(found.numbers)
        assert loop.engine.policy_version == found.policy_version > 0
        assert any(not torch.equal(before[n], w) for n, w in weights(assembly).items())
        assert drive(loop.advance()) is None  # two are left
        page = tmp_path / "live.html"
        write_live_page(page, tiny_live(tmp_path), store.generations())
        assert "promoted" in page.read_text()


def test_a_policy_that_fails_is_rolled_back_to_the_bit_under_a_new_version(tmp_path: Path) -> None:
    config = tiny_live(tmp_path, gate=GateSettings(margin=0.0))
    with opened(config, tmp_path / "live") as (loop, store, assembly):
        fill(store, list("abcd"))
        first = drive(loop.advance())
        before = weights(assembly)
        served = served_of(store.generations())
        loop._gate.promotes = lambda *numbers: False
        fill(store, list("efgh"))

        second = drive(loop.advance())

        assert second.verdict is Verdict.ROLLED_BACK
        assert second.policy_version > first.policy_version + 1
        assert loop.engine.policy_version == second.policy_version
        after = weights(assembly)
        assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
        now = served_of(store.generations())
        assert (now.generation, now.policy_version) == (served.generation, second.policy_version)
        kept = sorted(p.name for p in (tmp_path / "live" / "checkpoints").iterdir())
        assert kept == sorted({"generation-000000", f"generation-{served.generation:06d}"})


@pytest.mark.parametrize("phase", ["learns from", "is measured", "is promoted"])
def test_a_loop_that_dies_in_a_generation_learns_the_same(tmp_path: Path, phase: str) -> None:
    config = tiny_live(tmp_path)
    with opened(config, tmp_path / "whole") as (loop, store, assembly):
        fill(store, list("abcd"))
        whole = drive(loop.advance())
        expected = weights(assembly)

    def dies(text: str) -> None:
        if phase in text:
            raise Stop

    with opened(config, tmp_path / "cut", dies) as (loop, store, _):
        fill(store, list("abcd"))
        with pytest.raises(Stop):
            drive(loop.advance())
    with opened(config, tmp_path / "cut") as (loop, store, assembly):
        drive(loop.advance())
        (_, found) = store.generations()

        assert found.verdict is Verdict.PROMOTED
        assert found.policy_version == whole.policy_version
        assert store.sessions_of(1) == list("abcd")
        assert all(torch.equal(expected[n], w) for n, w in weights(assembly).items())


def test_sessions_without_tokens_or_texts_teach_nothing(tmp_path: Path) -> None:
    with opened(tiny_live(tmp_path), tmp_path / "live") as (loop, store, assembly):
        before = weights(assembly)
        for name in "abcd":
            redacted = stored()
            store.add_turns(
                name, [type(redacted)(messages=redacted.messages, completion=None)], consent=True
            )
            store.add_feedback(name, [UP])

        found = drive(loop.advance())

        assert found.numbers["redacted"] == 4
        assert all(torch.equal(before[n], w) for n, w in weights(assembly).items())


def one_for_three(prompt: Any, answer: str, correction: str) -> float:
    return float(answer.strip() == "3")


def test_a_reward_function_scores_groups_that_are_sampled_again(tmp_path: Path) -> None:
    config = tiny_live(tmp_path, reward="tests.live.test_loop:one_for_three")
    with opened(config, tmp_path / "live") as (loop, store, _assembly):
        fill(store, list("abcd"))
        plan = loop._learning.plan_of(1, _claimed(store))
        rollout = drive(loop._learning.play(plan, loop.engine))

        assert all(len(group.trajectories) == 2 for group in rollout.reinforced)
        for group in rollout.reinforced:
            for one in group.trajectories:
                right = one.messages[-1].content.strip() == "3" and not one.truncated
                assert one.reward == float(right)


def _claimed(store: SessionStore) -> list[Any]:
    store.claim(1, at_least=4, at_most=4)
    return store.examples(1)


def test_texts_are_left_out_where_only_rewards_count(tmp_path: Path) -> None:
    config = tiny_live(tmp_path, texts=False)
    with opened(config, tmp_path / "live") as (loop, store, _):
        store.add_turns("a", [stored()], consent=True)
        store.add_feedback("a", [Feedback(kind="text", text="no")])
        store.claim(1, at_least=1, at_most=1)
        plan = loop._learning.plan_of(1, store.examples(1))
        assert drive(loop._learning.play(plan, loop.engine)).episodes == ()
