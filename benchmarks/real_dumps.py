r"""`steadyrl compare-dumps` on dumps of a pretrained model, in the layout of each framework.

    python benchmarks/real_dumps.py --out benchmarks/results/real_dumps.json
    python benchmarks/real_dumps.py --questions held-out --seed 1 \
        --out benchmarks/results/real_dumps_held_out.json
    python benchmarks/real_dumps.py --cases '["sound: FP8 engine"]' --updates 0 \
        --questions held-out --seed 1 --out benchmarks/results/real_dumps_fp8.json

SmolLM2 answers prompts by an engine in bfloat16, and a float32 trainer scores the answers. The
stale engine has the weights before a few updates by AdamW on its own answers. The rules for
temperature and for prompts of one side were chosen on the first questions, among other dumps; no
rule was chosen on the held-out ones.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from dump_faults import FAULTY, SOUND, Case
from dump_world import World
from foreign_dumps import measure, publish

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.engine_policy import engine_policy
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.message import Message
from steadyrl.records.weight_source import StateDictWeights

QUESTIONS = {
    "first": ("Name a fruit and say why you like it.", "What is 12 + 35? Explain each step."),
    "held-out": (
        "Write two sentences about the sea.",
        "A train leaves at 9:40 and arrives at 11:05. How long does it take?",
        "List three things to pack for a hike, with a reason for each.",
        "Translate to French: The library opens at ten.",
    ),
}
"""By the name of their set."""

CASES = (
    "sound: bfloat16 engine",
    "stale weights",
    "temperature in the engine alone",
    "temperature in the trainer alone",
    "top-p in the engine alone",
    "template differs",
    "BOS doubled",
    "mask off by one",
    "base 2",
    "next token's",
    "rows permuted",
)
"""Of `dump_faults`. Faults of writing cost nothing, and each of sampling an engine's answers."""


class Options(Settings):
    """Compare dumps of a pretrained model."""

    model: Path = Path("models/smollm2")
    """Folder of the checkpoint."""

    updates: int = 4
    """Updates by which the stale engine is late."""

    learning_rate: float = 2e-5
    """Of these updates."""

    seed: int = 0
    """Seed of the samples."""

    cases: tuple[str, ...] = CASES
    """Names of the cases of `dump_faults`."""

    questions: Literal["first", "held-out"] = "first"
    """Prompts, with eight answers each."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def engine_of(policy: Policy, numerics: Numerics = Numerics.BFLOAT16) -> LocalEngine:
    """An engine with the weights of `policy`."""
    model = EngineModel(
        policy,
        numerics=numerics,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=False,
    )
    engine = LocalEngine(model, max_running=32)
    drive(engine.sync(StateDictWeights(state=policy.model.state_dict(), version=1)))
    return engine


def make_world(options: Options) -> World:
    """A world of the checkpoint: the trainer is some updates ahead of it."""
    settings = Pretrained(path=str(options.model))
    tokenizer = load_tokenizer(settings)
    policy = Policy(load_model(settings, tokenizer=tokenizer, seed=0), tokenizer)
    questions = QUESTIONS[options.questions]
    conversations = [[Message(role="user", content=question)] for question in questions]
    prompts = [tuple(prompt.tolist()) for prompt in encode_prompts(tokenizer, conversations)]
    stale = engine_of(policy)
    learn(policy, stale, prompts, options)
    return World(
        trainer=policy,
        engines={
            "bfloat16": engine_of(policy),
            "fp8": engine_of(policy, Numerics.FP8),
            "stale": stale,
        },
        scorer=engine_policy(policy, Numerics.BFLOAT16, WeightScaling.CHANNEL),
        prompts=prompts,
    )


def learn(
    policy: Policy, engine: LocalEngine, prompts: list[tuple[int, ...]], options: Options
) -> None:
    """Updates of REINFORCE on answers of the engine: even token ids are rewarded."""
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=options.learning_rate)
    for update in range(options.updates):
        prompt = prompts[update % len(prompts)]
        request = Request(
            prompt_ids=torch.tensor(prompt),
            num_completions=8,
            seed=options.seed + update,
            sampling=Sampling(max_new_tokens=16),
        )
        answers = drive(engine.generate(request))
        for answer in answers:
            even = (answer.token_ids % 2 == 0).double().mean()
            tokens = torch.cat([torch.tensor(prompt), answer.token_ids])[None]
            logits = policy.model(input_ids=tokens).logits[0, len(prompt) - 1 : -1]
            chosen = logits.log_softmax(-1).gather(1, answer.token_ids[:, None])
            (-(even - 0.5) * chosen.sum() / len(answers)).backward()
        optimizer.step()
        optimizer.zero_grad()


def chosen_cases(names: Sequence[str]) -> list[Case]:
    """The cases of these names."""
    return [case for case in (*SOUND, *FAULTY) if case.name in names]


def main(options: Options) -> None:
    """Makes the dumps and compares them."""
    torch.set_num_threads(1)
    world = make_world(options)
    with tempfile.TemporaryDirectory() as passing:
        outcomes = measure(world, chosen_cases(options.cases), [options.seed], Path(passing))
    publish(outcomes, options.seed, options.out)


if __name__ == "__main__":
    main(script_options(Options))
