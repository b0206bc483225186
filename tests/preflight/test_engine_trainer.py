"""Distances of engine and trainer by their protocols, against policies that are rescored."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from steadyrl.analysis.mismatch import MismatchSources, Order, Source, mismatch_sources, rescore
from steadyrl.analysis.safety import Verdict
from steadyrl.engines.canary import CanarySettings, make_probes
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_policy import engine_policy
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.environments.protocol import Split
from steadyrl.learners.local import LocalLearner
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.tokenizers import padding_id, text_tokens
from steadyrl.preflight.engine_trainer import canary_finding, kl_sources
from steadyrl.records.completion import Completion
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.weight_source import WeightSource
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.tasks import make_tasks
from steadyrl.run.assembly import Assembly
from steadyrl.run.components import rounding_seed
from steadyrl.training.checked_engine import CheckedEngine
from tests.closeness import assert_close
from tests.run.tiny import tiny_run

CONFIG = tiny_run(cold_start=None)


@contextmanager
def assembled() -> Iterator[tuple[Assembly, LocalLearner]]:
    assembly = Assembly.of(CONFIG)
    assert isinstance(assembly.learner, LocalLearner)
    yield assembly, assembly.learner
    assembly.close()


def sampled(assembly: Assembly) -> TokenBatch:
    groups = drive(
        play_groups(
            assembly.environment,
            assembly.engine,
            assembly.tokenizer,
            make_tasks(assembly.environment, Split.TRAIN, range(6)),
            group_size=4,
            sampling=CONFIG.sampling,
            seed=3,
        )
    )
    zeros = [torch.zeros(len(group.trajectories)) for group in groups]
    return token_batch(groups, zeros, pad_token_id=padding_id(assembly.tokenizer))


def test_sources_by_protocol_are_those_of_rescored_policies() -> None:
    with assembled() as (assembly, learner):
        learner.replay = RoutingReplay.R3
        batch = sampled(assembly)
        engine = engine_policy(
            learner.policy, Numerics.FP8, WeightScaling.CHANNEL, seed=rounding_seed(CONFIG)
        )

        found = kl_sources(batch, learner)
        expected = mismatch_sources(rescore(batch, engine=engine, old=learner.policy))

        assert learner.replay is RoutingReplay.R3
        compare(found, expected)


def compare(found: MismatchSources, expected: MismatchSources) -> None:
    own, full = found.orders[Order.ROUTES_LAST], expected.orders[Order.ROUTES_LAST]
    assert list(own) == [Source.NUMERICS, Source.ROUTING]
    for name in ("kl_k1", "kl_k3", "mean_absolute"):
        close(*(getattr(each.whole, name) for each in (found, expected)))
        close(*(getattr(each[Source.ROUTING], name) for each in (own, full)))
    # Log-ratios add up, so decoding and numerics together are what is called numerics here.
    together = full[Source.DECODING].kl_k1 + full[Source.NUMERICS].kl_k1
    close(own[Source.NUMERICS].kl_k1, together)
    shares = [[f.share for f in each.flips[Source.ROUTING]] for each in (found, expected)]
    assert shares[0] == shares[1]


def close(found: float, expected: float) -> None:
    """Asserts equal means of differences of log-probabilities, which are of the order of 1."""
    assert_close(torch.tensor([found, 1.0]), torch.tensor([expected, 1.0]), terms=4)


class DeafEngine:
    """An engine that takes over weights once, and never again."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine, self._syncs = engine, 0

    @property
    def capabilities(self) -> EngineCapabilities:
        return self._engine.capabilities

    @property
    def policy_version(self) -> int:
        return self._engine.policy_version

    async def generate(self, request: Request) -> list[Completion]:
        return await self._engine.generate(request)

    async def score(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        return await self._engine.score(sequences)

    async def sync(self, weights: WeightSource) -> None:
        self._syncs += 1
        if self._syncs == 1:
            await self._engine.sync(weights)


def synced(assembly: Assembly, learner: LocalLearner, engine: object) -> CheckedEngine:
    """The engine after a first sync, and the learner after an update."""
    settings = CanarySettings(every=1)
    tokens = text_tokens(assembly.tokenizer, learner.policy.vocabulary_size)
    checked = CheckedEngine(engine, learner, make_probes(tokens, settings, 64), settings)
    drive(checked.sync(learner.publish()))
    learner.begin_stage(OptimizerSettings(learning_rate=1e-2), 1.0, fresh=True)
    with torch.no_grad():
        for weight in learner.policy.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    return checked


def test_weights_that_arrive_are_safe() -> None:
    with assembled() as (assembly, learner):
        checked = synced(assembly, learner, assembly.engine)

        finding = drive(canary_finding(checked, learner))

        assert finding.verdict is Verdict.SAFE
        assert finding.value is not None


def test_weights_that_do_not_arrive_are_unsafe_and_named() -> None:
    with assembled() as (assembly, learner):
        assert isinstance(assembly.engine, LocalEngine)
        checked = synced(assembly, learner, DeafEngine(assembly.engine))

        finding = drive(canary_finding(checked, learner))

        assert finding.verdict is Verdict.UNSAFE
        assert finding.detail
