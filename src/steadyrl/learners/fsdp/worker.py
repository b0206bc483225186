"""What runs in a rank of the FSDP2 learner. Every rank answers every question at the same time."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh

from steadyrl.base.errors import NonFiniteError, UserError
from steadyrl.base.progress import Progress
from steadyrl.learners.adapted_model import AdaptedModel, AdapterContent
from steadyrl.learners.fsdp.checkpoint import (
    MOMENTS,
    WEIGHTS,
    BackgroundSaving,
    load_shards,
    save_shards,
    saved_sizes,
)
from steadyrl.learners.fsdp.hosts import DeviceType
from steadyrl.learners.fsdp.memory_errors import answers_without_memory
from steadyrl.learners.fsdp.optimizer import ShardedOptimizer
from steadyrl.learners.fsdp.plan import RankPass, RankTerm
from steadyrl.learners.fsdp.setup import RankSetup
from steadyrl.learners.fsdp.sharded_policy import ShardedPolicy, WeightForm
from steadyrl.learners.fsdp.shards import shard_of
from steadyrl.learners.non_finite import non_finite_weight
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.passes import Passes
from steadyrl.learners.replay import records_routing, routing_to_replay
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.policies.reach import Reach
from steadyrl.records.routing import Routing, RoutingReplay

Answer = TypeVar("Answer")

Scored = list[tuple[Float[Tensor, "b T"], Routing | None, Float[Tensor, "n K"] | None]]
"""Log-probabilities, routing, and log-probabilities of candidates, of each pass that is not a
filler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankUpdate:
    """A rank's part of an update."""

    losses: list[float]
    measurements: list[TokenMeasurements]
    gradient_norm: float
    reach: Reach


class Worker:
    """Each public method answers the question of its name."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.rank = 0

    def join(
        self,
        rank: int,
        ranks: int,
        meeting: tuple[str, int],
        device_type: DeviceType,
        timeout: float,
    ) -> None:
        """Joins the process group, which meets at an address and a port."""
        self.rank, limit = rank, timedelta(seconds=timeout)
        self._saving = BackgroundSaving(limit)
        address, port = meeting
        if device_type == "cuda":
            torch.cuda.set_device(rank % torch.cuda.device_count())
        dist.init_process_group(
            "nccl" if device_type == "cuda" else "gloo",
            store=TCPStore(address, port, is_master=False, timeout=limit),
            rank=rank,
            world_size=ranks,
            timeout=limit,
        )
        self._mesh = init_device_mesh(device_type, (ranks,))

    @answers_without_memory
    def begin(self, setup: RankSetup) -> None:
        """Builds this rank's shard of the policy."""
        torch.set_num_threads(setup.threads)
        self._setup = setup
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the other process has issued them
            self._sharded = ShardedPolicy(setup, self._mesh)
        # What is planned elsewhere already says which rows share prefixes.
        settings = setup.settings.model_copy(update={"share_prefixes": "never"})
        self._passes = Passes(self._sharded.policy, settings, replay=setup.replay)
        self._optimizer = ShardedOptimizer(self._sharded.parameters(), setup.pass_dtype)
        self._reference: ShardedPolicy | None = None

    def begin_stage(self, temperature: float, fresh: bool) -> None:
        """Sets the temperature of a stage, and clears the moments if it is `fresh`."""
        self._passes.temperature = temperature
        if fresh:
            self._optimizer.reset()

    @answers_without_memory
    @torch.no_grad()
    def score(self, passes: Sequence[RankPass], replay: RoutingReplay) -> Scored:
        """Log-probabilities of the rows, and the routing that updates on them replay."""
        scored: Scored = []
        for each in self._report(passes):
            rows = each.batch
            scores = self._passes.scores(
                rows,
                each.micro.prefix_groups,
                replay=routing_to_replay(replay, rows),
                record_routing=records_routing(replay, rows),
                candidates=True,
            )
            if not each.is_filler:
                used = scores.routing
                used = None if used is None else used.to(torch.device("cpu"))
                likely = scores.candidates
                likely = None if likely is None else likely.cpu()
                scored.append((scores.logprobs.cpu(), used, likely))
        return scored

    @answers_without_memory
    @torch.enable_grad()  # code of an objective may have turned gradients off
    def update(
        self,
        terms: Sequence[RankTerm],
        replay: RoutingReplay,
        optimizer: OptimizerSettings,
        rate: float,
        step: int,
    ) -> RankUpdate:
        """Takes one optimizer step together with the other ranks."""
        self._passes.replay = replay
        self._optimizer.zero_gradients()
        losses: list[float] = []
        measured: list[TokenMeasurements] = []
        for term in terms:
            for each in self._report(term.learned):
                loss, tokens = self._all_or_none(
                    partial(
                        self._passes.loss,
                        each.batch,
                        each.micro,
                        term.objective,
                        each.weights,
                        step,
                    )
                )
                loss.backward()
                losses.append(loss.item())
                if term.is_measured and not each.is_filler:
                    measured.append(tokens)
            for each in self._report(term.measured):
                measure = partial(self._passes.measure, each.batch, each.micro)
                tokens = self._all_or_none(partial(measure, term.objective, step))
                if not each.is_filler:
                    measured.append(tokens)
        norm = self._optimizer.clip_gradients(optimizer.gradient_clip, step)
        reach = self._optimizer.step(optimizer, rate)
        return RankUpdate(losses=losses, measurements=measured, gradient_norm=norm, reach=reach)

    def gather(self, name: str, form: WeightForm, of_reference: bool) -> Tensor | None:
        """A whole weight, on rank 0."""
        sharded = self._reference if of_reference else self._sharded
        assert sharded is not None, "no reference policy was loaded"
        weight = sharded.gather(name, form)
        return weight.cpu() if self.rank == 0 else None

    def adapter(self) -> tuple[dict[str, Any], dict[str, int]]:
        """Content of peft's `adapter_config.json`, and the sizes of the adapter's weights."""
        trained = self._sharded.trained
        assert isinstance(trained, AdaptedModel)
        sizes = {name: weight.numel() for name, weight in trained.parameters().items()}
        return trained.adapter.config, sizes

    def fill_adapter(self, content: AdapterContent) -> None:
        """Fills the adapter for a check."""
        trained = self._sharded.trained
        assert isinstance(trained, AdaptedModel)
        trained.fill(content, self._sharded.randomize)

    @answers_without_memory
    def save(self, folder: Path, policy_version: int) -> None:
        """Writes this rank's shards of weights and moments to `folder`.

        Raises:
            NonFiniteError: a weight is not finite.
        """
        self._check_saving(folder, policy_version)
        save_shards(self._sharded.parameters(), folder / WEIGHTS)
        save_shards(self._optimizer.state(), folder / MOMENTS)

    @answers_without_memory
    def begin_save(self, folder: Path, policy_version: int) -> None:
        """Copies what `save` writes, and writes it in threads.

        Raises:
            NonFiniteError: a weight is not finite.
        """
        self._check_saving(folder, policy_version)
        states = {WEIGHTS: self._sharded.parameters(), MOMENTS: self._optimizer.state()}
        self._saving.begin(states, folder)

    def is_saved(self) -> bool:
        """Whether this rank has written all that was begun."""
        return self._saving.is_done

    def finish_save(self) -> None:
        """Waits until it has."""
        self._saving.finish()

    def _check_saving(self, folder: Path, policy_version: int) -> None:
        def check() -> None:
            for name, master in self._optimizer.masters.items():
                if not bool(shard_of(master).isfinite().all()):
                    raise non_finite_weight(name, policy_version)

        self._all_or_none(check)
        if not folder.is_dir():  # it was made by the process of the loop
            raise UserError(
                f"The folder {folder} does not exist where rank {self.rank} of the learner runs. "
                "Put the run into a folder that all machines share, by --out."
            )

    @answers_without_memory
    def load(self, folder: Path) -> None:
        """Restores weights and moments, whatever the number of ranks that wrote them.

        Raises:
            UserError: the folder holds another model.
        """
        load_shards(self._sharded.parameters(), folder / WEIGHTS)
        names = saved_sizes(folder / MOMENTS).keys()
        state = self._optimizer.empty_state() if names else {}
        load_shards(state, folder / MOMENTS)
        self._optimizer.load_state(state)

    @answers_without_memory
    def save_reference(self, folder: Path) -> None:
        """Writes this rank's shards of the trained weights to `folder`."""
        save_shards(self._sharded.parameters(), folder / WEIGHTS)

    def drop_reference(self) -> None:
        """Drops the reference policy."""
        self._passes.reference = self._reference = None

    @answers_without_memory
    def load_reference(self, folder: Path, setup: RankSetup) -> None:
        """Loads the reference policy, sharded like the trained one."""
        self.drop_reference()  # before there are two
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = ShardedPolicy(setup, self._mesh)
        load_shards(reference.parameters(), folder / WEIGHTS)
        reference.policy.model.requires_grad_(False)
        self._reference, self._passes.reference = reference, reference.policy

    def _report(self, passes: Sequence[RankPass]) -> Iterator[RankPass]:
        """Yields each pass, and reports progress when it is done."""
        total = sum(len(each.micro) for each in passes)
        done = 0
        for each in passes:
            yield each
            done += len(each.micro)
            if self.rank == 0:
                self._progress.advance("rows", done, total)

    def _all_or_none(self, work: Callable[[], Answer]) -> Answer:
        """The result of `work`, unless it is not finite on some rank.

        A rank that stopped alone would leave the others waiting for it.

        Raises:
            NonFiniteError: that of the first rank that raised one, on every rank.
        """
        answers: list[Answer] = []
        error: NonFiniteError | None = None
        try:
            answers.append(work())
        except NonFiniteError as found:
            error = found
        failed = torch.tensor(int(error is not None), device=self._mesh.device_type)
        dist.all_reduce(failed, dist.ReduceOp.MAX)
        if not bool(failed):
            return answers[0]
        errors: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error)
        raise next(filter(None, errors))
