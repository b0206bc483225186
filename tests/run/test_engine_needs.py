"""What a run needs of its engine."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import EngineCapabilities, Sampling
from steadyrl.objectives import Reinforce
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.engine_needs import check_engine
from tests.run.tiny import tiny_experiential_run, tiny_run

ABLE = EngineCapabilities(max_positions=64, routing=True, exact_draws=True, scoring=True)


def test_an_engine_that_records_no_routing_is_refused_under_r3_alone() -> None:
    unable = replace(ABLE, routing=False)
    with pytest.raises(UserError, match=r"'r3', but the engine 'local' does not record .* 'r2'"):
        check_engine(tiny_run(routing_replay=RoutingReplay.R3), unable)
    assert check_engine(tiny_run(routing_replay=RoutingReplay.R3), ABLE) == ()
    assert check_engine(tiny_run(routing_replay=RoutingReplay.R2), unable) == ()


def test_sampling_that_the_trainer_cannot_follow_is_refused() -> None:
    cut = tiny_run(sampling=Sampling(top_p=0.9, top_k=20))
    said = r"sampling is truncated by top_p 0\.9 and top_k 20, and the engine 'local' does not tell"
    with pytest.raises(UserError, match=said):
        check_engine(cut, ABLE)
    assert check_engine(cut, replace(ABLE, sampling_support=True)) == ()
    assert check_engine(cut.model_copy(update={"steps": 0}), ABLE) == ()


def test_reflections_that_are_learned_from_are_among_it() -> None:
    values = tiny_experiential_run().algorithm.model_dump()
    values["reflection"]["sampling"]["top_p"] = 0.5
    with pytest.raises(UserError, match=r"^algorithm\.reflection\.sampling is truncated"):
        check_engine(tiny_experiential_run(algorithm=values), ABLE)


def test_what_an_objective_reads_of_the_engine_must_be_recorded() -> None:
    algorithm = {"objective": "tests.run.test_engine_needs:ReadsTwo", "prompts": 2, "group_size": 2}
    config = tiny_run(algorithm=algorithm)
    with pytest.raises(
        UserError, match=r"most probable tokens .* 'local' does not record\. Choose"
    ):
        check_engine(config, ABLE)
    assert check_engine(config, replace(ABLE, candidates=True)) == ()


@pytest.mark.parametrize(("setting", "value"), [("top_p", 0.9), ("top_k", 7)])
def test_candidates_are_only_recorded_of_whole_distributions(setting: str, value: float) -> None:
    algorithm = tiny_experiential_run().algorithm.model_dump()
    algorithm["objective"] = "tests.run.test_engine_needs:ReadsTwo"
    tiny_experiential_run(algorithm=algorithm)
    algorithm["reflection"]["sampling"][setting] = value
    said = r"only recorded of sampling from the whole vocabulary, but algorithm\.reflection\.sampl"
    with pytest.raises(ValidationError, match=said):
        tiny_experiential_run(algorithm=algorithm)


class ReadsTwo(Reinforce):
    """REINFORCE with more to read."""

    name: str = ""
    reads_candidates = 2


def test_rescoring_needs_an_engine_that_scores() -> None:
    config = tiny_run(engine=LocalEngineSettings(rescored_groups=2))
    with pytest.raises(UserError, match=r"rescored_groups is 2, .* 'local' does not score"):
        check_engine(config, replace(ABLE, scoring=False))
    assert check_engine(config, ABLE) == ()


def test_a_continuous_run_says_what_holds_of_it() -> None:
    config = tiny_run(engine=LocalEngineSettings(overlap=True, in_flight="continue"))
    (note,) = check_engine(config, ABLE)
    assert "no task is skipped or learned from twice" in note


def test_a_run_that_cannot_be_repeated_says_so() -> None:
    (note,) = check_engine(tiny_run(), replace(ABLE, exact_draws=False))
    assert "cannot be repeated, nor resumed to the same bits" in note
