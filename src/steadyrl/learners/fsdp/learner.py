"""A learner whose model is sharded over processes by FSDP2.

    this process    plans the passes, keeps the loop      ranks    hold shards, compute together

`Learner`'s methods are questions to the ranks, which answer them at the same time.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.learners.adapted_model import AdapterContent
from steadyrl.learners.fsdp.checkpoint import METADATA, WEIGHTS
from steadyrl.learners.fsdp.gathered import GatheredWeights
from steadyrl.learners.fsdp.hosts import ThisMachine
from steadyrl.learners.fsdp.plan import Planner, join_scores
from steadyrl.learners.fsdp.ranks import RankGroup
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.fsdp.setup import RankSetup, initial_layout, initial_weights
from steadyrl.learners.fsdp.sharded_policy import WeightForm
from steadyrl.learners.fsdp.worker import RankUpdate
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.micro_batches import least_saving
from steadyrl.learners.optimizer import OptimizerSettings, learning_rate
from steadyrl.learners.protocol import Update
from steadyrl.learners.replay import records_routing
from steadyrl.learners.settings import LearnerContext
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.policies import lora
from steadyrl.policies.checkpoint_names import to_checkpoint_names
from steadyrl.policies.positions import max_positions
from steadyrl.records.run_folder import write_folder_atomically
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.weight_source import AdapterWeights, StateDictWeights, WeightSource


class FsdpLearner:
    """A learner in several processes. See `Learner` for what each method does.

    Args:
        ranks: Processes to use; None: they are started, on this machine unless `context` names
            another host. They end when the learner is closed.

    Raises:
        UserError: there are fewer GPUs than ranks, or FSDP2 cannot shard the model.
    """

    def __init__(
        self,
        settings: FsdpLearnerSettings,
        context: LearnerContext,
        ranks: RankGroup | None = None,
    ) -> None:
        policy = context.policy
        if settings.activation_checkpointing:
            policy.enable_activation_checkpointing()
        saving = least_saving(settings.share_prefixes, policy)
        context.progress.begin("starting the learner's ranks")
        self.policy_version = 0
        self.replay = context.replay
        if ranks is None:
            host = context.rank_host or ThisMachine(settings.device_type())
            ranks = RankGroup(settings.ranks, host, settings.timeout, context.progress)
        self.ranks = ranks
        self._policy = policy
        self._settings = settings
        self._optimizer = OptimizerSettings()
        self._planner = Planner(settings, len(self.ranks), saving)
        self._setup = partial(
            RankSetup,
            family=type(policy.model),
            config=policy.model.config,
            tokenizer=policy.tokenizer,
            hooks_routing=policy.hook is not None,
            settings=settings,
            replay=context.replay,
            seed=context.seed,
            device_type=ranks.host.device_type,
            threads=max(1, torch.get_num_threads() // len(self.ranks)),
        )
        self._reference_number = 0
        self._adapter: tuple[dict[str, Any], dict[str, int]] | None = None
        """Its configuration, and the sizes of its weights by name."""
        try:
            self._ask_with_weights("begin", context.masters or {})
            if settings.lora is not None:
                self._adapter = self.ranks.call("adapter")[0]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the ranks."""
        self.ranks.close()

    @property
    def max_positions(self) -> int | None:
        """Maximum number of tokens in a row; None: no limit."""
        return max_positions(self._policy.model)

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens that the policy knows."""
        return self._policy.vocabulary_size

    def adapter_sizes(self) -> tuple[int, int]:
        """Number of the adapter's weights, and of those of its base."""
        assert self._adapter is not None, "an adapter is trained"
        base = sum(weight.numel() for weight in self._policy.model.parameters())
        return sum(self._adapter[1].values()), base

    def fill_adapter(self, content: AdapterContent) -> None:
        """Fills the adapter for a check."""
        self.ranks.call("fill_adapter", content)

    def begin_stage(self, optimizer: OptimizerSettings, temperature: float, *, fresh: bool) -> None:
        """Sets the optimizer and the temperature of a stage."""
        self._optimizer = optimizer
        self.ranks.call("begin_stage", temperature, fresh)

    def score(self, batch: TokenBatch) -> TokenBatch:
        """`batch` with `old_logprobs`, and with `old_routing` if updates on it will replay it."""
        passes = self._planner.scoring(batch)
        scored = self.ranks.call_each("score", [(own, self.replay) for own in passes])
        return join_scores(batch, passes, scored, routed=records_routing(self.replay, batch))

    def update(self, terms: Sequence[LossTerm], *, step: int, steps: int) -> Update:
        """Takes one optimizer step on the sum of `terms`."""
        rate = learning_rate(self._optimizer, step, steps)
        questions = [
            (own, self.replay, self._optimizer, rate, step) for own in self._planner.terms(terms)
        ]
        answers: list[RankUpdate] = self.ranks.call_each("update", questions)
        self.policy_version += 1
        return Update(
            loss=sum((loss for answer in answers for loss in answer.losses), 0.0),
            gradient_norm=answers[0].gradient_norm,
            learning_rate=rate,
            reach=answers[0].reach,
            measurements=TokenMeasurements.join(
                [tokens for answer in answers for tokens in answer.measurements]
            ),
        )

    def publish(self) -> WeightSource:
        """The current weights, gathered one at a time. Read them before the next update."""
        return self._published(self.policy_version, of_reference=False)

    def publish_reference(self) -> WeightSource:
        """The weights of the reference policy, which must be loaded."""
        return self._published(0, of_reference=True)

    def save(self, folder: Path) -> None:
        """Writes a distributed checkpoint, and the model's configuration.

        An adapter is also written as a folder that peft loads.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.ranks.call("save", folder, self.policy_version)
        self._write_description(folder)

    @property
    def saves_in_background(self) -> bool:
        """Whether checkpoints are written while training goes on."""
        wanted, on_gpus = self._settings.background_saves, self.ranks.host.device_type == "cuda"
        return on_gpus if wanted == "auto" else wanted

    def begin_save(self, folder: Path) -> None:
        """Begins what `save` does; later updates do not change what is written."""
        folder.mkdir(parents=True, exist_ok=True)
        self.ranks.call("begin_save", folder, self.policy_version)
        self._write_description(folder)

    def is_saved(self) -> bool:
        """Whether all ranks have written what was begun."""
        return all(self.ranks.call("is_saved"))

    def finish_save(self) -> None:
        """Waits until they have."""
        self.ranks.call("finish_save")

    def _write_description(self, folder: Path) -> None:
        """Writes tokenizer and configuration, and an adapter as peft loads it."""
        model = self._policy.model
        self._policy.tokenizer.save_pretrained(folder)
        if self._adapter is not None:
            config, names = self._adapter
            weights = self._gathered("trained", names, of_reference=False)
            save_file(dict(weights), folder / lora.WEIGHTS, metadata={"format": "pt"})
            (folder / lora.CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
            return
        model.config.save_pretrained(folder)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(folder)

    def load(self, folder: Path, *, policy_version: int) -> None:
        """Restores what `save` wrote, whatever the number of ranks was."""
        if not (folder / WEIGHTS / METADATA).is_file():
            raise UserError(
                f"The checkpoint {folder} was not written by learner 'fsdp'. Resume the run with "
                "the learner it began with."
            )
        self.ranks.call("load", folder)
        self.policy_version = policy_version

    def save_reference(self, folder: Path) -> None:
        """Writes the current weights to `folder` as a reference policy."""

        def write(draft: Path) -> None:
            self.ranks.call("save_reference", draft)

        write_folder_atomically(folder, write)

    def load_reference(self, folder: Path | None) -> None:
        """Makes the weights in `folder` the reference policy; None drops it."""
        self._reference_number += 1
        if folder is None:
            self.ranks.call("drop_reference")
        elif not (folder / WEIGHTS / METADATA).is_file():
            raise UserError(
                f"The reference {folder}, the weights with which this stage began, is missing or "
                "damaged. Put back the folder that the run wrote, or start the run anew."
            )
        else:
            self._ask_with_weights("load_reference", {}, folder)

    def _ask_with_weights(self, question: str, masters: Mapping[str, Tensor], *args: Any) -> None:
        """Asks the ranks to build a policy from the initial weights, which all of them read."""
        weights = initial_weights(self._policy, masters)
        with self.ranks.host.share(weights, initial_layout(weights, self._settings)) as shared:
            self.ranks.call(question, *args, self._setup(weights=shared))

    def _published(self, version: int, *, of_reference: bool) -> WeightSource:
        model = self._policy.model
        names = list(model.state_dict())
        whole = StateDictWeights(
            state=self._gathered("merged", names, of_reference=of_reference),
            version=version,
            to_checkpoint=partial(to_checkpoint_names, model),
        )
        if self._adapter is None:
            return whole
        config, sizes = self._adapter
        return AdapterWeights(
            state=self._gathered("trained", sizes, of_reference=of_reference),
            adapter_config=config,
            version=version,
            merged=whole,
        )

    def _gathered(
        self, form: WeightForm, names: Iterable[str], *, of_reference: bool
    ) -> GatheredWeights:
        def held() -> int:
            return self._reference_number if of_reference else self.policy_version

        then = held()
        return GatheredWeights(
            self.ranks,
            list(names),
            form=form,
            of_reference=of_reference,
            is_current=lambda: held() == then,
        )
