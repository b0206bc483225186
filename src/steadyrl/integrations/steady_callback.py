"""A callback that diagnoses the run of any trainer of Transformers or TRL from what it logs."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from steadyrl.analysis import Diagnosis, RunSettings, Status, has_reinforcement, stages_of
from steadyrl.analysis.foreign import TRAINERS, diagnose_in_words_of, translated_rows

TRL = TRAINERS["trl"]


class SteadyCallback(TrainerCallback):
    """Diagnoses a run after each log, and warns when its status changes. It changes no loss.

    With `MiniRLTrainer` it reads all metrics of the mismatch. With TRL's own trainers it reads what
    they log, and the diagnosis lists what is missing.

    Example:
        trainer = GRPOTrainer(..., callbacks=[SteadyCallback()])
    """

    def __init__(self) -> None:
        self.diagnosis: Diagnosis | None = None
        """Diagnosis of the steps logged so far; None: no rewards were logged yet."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Diagnoses the run from its whole log, so also after it was resumed."""
        stages = stages_of(rows_of(state.log_history), origin="the trainer's log")
        if not has_reinforcement(stages):
            return
        previous = self.diagnosis.status if self.diagnosis else Status.HEALTHY
        self.diagnosis = diagnose_in_words_of(TRL, stages, settings_of(args))
        if self.diagnosis.status is not previous and state.is_world_process_zero:
            logging.getLogger(__name__).warning(self.diagnosis.to_text(str(args.output_dir)))


def rows_of(log_history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The training steps of a `log_history`, with metrics under our names."""
    return translated_rows(TRL, [entry for entry in log_history if "reward" in entry])


def settings_of(args: TrainingArguments) -> RunSettings:
    """The settings that a diagnosis uses, from the arguments of a TRL trainer."""
    iterations = getattr(args, "steps_per_generation", 1) * getattr(args, "num_iterations", 1)
    return RunSettings(
        mini_batches=max(1, iterations // args.gradient_accumulation_steps),
        learning_rate=args.learning_rate,
        routing_replay=getattr(args, "routing_replay", "none"),
        numerics="bfloat16" if args.bf16 else "float32",
        objective=getattr(args, "loss_type", "grpo"),
        one_update=iterations <= args.gradient_accumulation_steps,
        partial_log=True,
    )
