"""Notes on settings that do less than one may expect."""

from transformers import GenerationConfig

from steadyrl.learners.optimizer import OptimizerSettings, learning_rate
from steadyrl.run.config import RunConfig

NEUTRAL_SAMPLING: dict[str, float | None] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "suppress_tokens": None,
    "bad_words_ids": None,
}
"""Settings of a generation config that change what is sampled, and the values at which they do not.
None means the same."""


def generation_note(config: GenerationConfig | None) -> str | None:
    """A note on sampling parameters of a checkpoint, which no engine reads; None without any."""
    asked = [
        f"{name} {value!r:.200}"
        for name, neutral in NEUTRAL_SAMPLING.items()
        if (value := getattr(config, name, None)) not in (None, neutral)
    ]
    if not asked:
        return None
    return (
        f"generation_config.json of the checkpoint asks for {', '.join(asked)}. It is not applied: "
        "responses are sampled as `sampling` says."
    )


def warm_up_notes(config: RunConfig) -> tuple[str, ...]:
    """A note for each stage that ends before its learning rate has reached its peak."""
    stages = [("optimizer", config.optimizer, config.steps)]
    if config.cold_start is not None:
        stages.insert(
            0, ("cold_start.optimizer", config.cold_start.optimizer, config.cold_start.steps)
        )
    return tuple(_warm_up_note(*stage) for stage in stages if 0 < stage[2] < stage[1].warmup_steps)


def _warm_up_note(name: str, optimizer: OptimizerSettings, steps: int) -> str:
    last = learning_rate(optimizer, steps - 1, steps)
    return (
        f"{name}.warmup_steps is {optimizer.warmup_steps}, but there are {steps} steps: the "
        f"learning rate ends at {last:.3g} and never reaches {optimizer.learning_rate:.3g}."
    )
