"""Experiential RL of instruction-tuned models with the settings of the paper (arXiv:2602.13949).

    steadyrl train erl-frozenlake --model Qwen/Qwen3-4B-Instruct-2507
    steadyrl train erl-sokoban --model allenai/Olmo-3-7B-Instruct
    steadyrl train erl-hotpotqa --model Qwen/Qwen3-4B-Instruct-2507

64 tasks with 4 episodes each per step; dual-clipped PPO with group-normalized advantages; all rows
have equal weight. Settings that only the released scripts define are taken from there. Where
scripts and text differ, the text holds: 64 tasks per optimizer step, on HotpotQA too.

Departs from both:
- An optimizer step uses all rows of its 64 tasks, however many failed; the scripts use one step per
  256 rows.
- The token budget is per turn instead of per episode.
- Tasks are ours, with disjoint splits; HotpotQA is searched as its environment describes.
- Everything computes in bfloat16; the scripts for HotpotQA use float16.

On HotpotQA the tokenizer's chat template shows the tool, and calls are parsed in Qwen's format. A
model whose template asks for another format, such as Olmo 3, needs `--environment.tool-text
message`, which shows the tool and Qwen's format in the prompt.

On one device each weight takes 22 bytes (bfloat16 in trainer and engine; float32 master weight,
gradient and moments, and the gradient of one micro-batch), plus 2 for the reference. The keys and
values of `engine.max_running` sequences come on top: lower it, or `learner.micro_batch_tokens`, if
memory runs out.
"""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.objectives import DualClip, ReferenceKL
from steadyrl.policies.model_settings import Pretrained
from steadyrl.run.config import RunConfig
from steadyrl.training.journal import JournalSettings

MODEL = "Qwen/Qwen3-4B-Instruct-2507"
GRID_TURN = 1280
"""Tokens per turn on the grids: an eighth of the 10,240 per episode."""


def erl_frozenlake() -> RunConfig:
    """Experiential RL of a pretrained model on FrozenLake, as in the paper."""
    return _grid(FrozenLakeSettings(), steps=100)


def erl_sokoban() -> RunConfig:
    """Experiential RL of a pretrained model on Sokoban, as in the paper."""
    return _grid(SokobanSettings(), steps=200)


def erl_hotpotqa() -> RunConfig:
    """Experiential RL of a pretrained model on HotpotQA, as in the paper."""
    return _paper(
        HotpotQASettings(),
        steps=100,
        style=ReflectionStyle.INSTRUCTIONS,
        turns=5,
        tokens=2048,
        held_out={"tasks": 1024, "samples": 1},
    )


def _grid(game: FrozenLakeSettings | SokobanSettings, *, steps: int) -> RunConfig:
    """Common settings of the two grid games."""
    return _paper(
        game,
        steps=steps,
        style=ReflectionStyle.RULEBOOK,
        turns=8,
        tokens=GRID_TURN,
        held_out={"tasks": 100, "samples": 4},
    )


def _paper(
    environment: EnvironmentSettings,
    *,
    steps: int,
    style: ReflectionStyle,
    turns: int,
    tokens: int,
    held_out: dict[str, int],
) -> RunConfig:
    """Common settings of all three: the table of appendix C, and defaults of the scripts."""
    reflecting = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=2048)
    return RunConfig(
        model=Pretrained(path=MODEL),
        environment=environment,
        algorithm=ExperientialSettings(
            objective=DualClip(clip_low=0.2, clip_high=0.28, ratio_cap=3.0),
            prompts=64,
            group_size=4,
            max_turns=turns,
            reference_kl=ReferenceKL(coefficient=0.001),
            reflection=PolicyReflection(style=style, sampling=reflecting),
        ),
        steps=steps,
        sampling=Sampling(temperature=0.7, max_new_tokens=tokens),
        engine=LocalEngineSettings(max_running=32),
        learner=LocalLearnerSettings(dtype="bfloat16", activation_checkpointing=True),
        optimizer=OptimizerSettings(learning_rate=1e-6, betas=(0.9, 0.999), weight_decay=0.01),
        evaluation=EvaluationSettings(**held_out, max_turns=turns, top_p=0.8, top_k=20),
        evaluate_every=5,
        journal=JournalSettings(checkpoint_every=20, keep_checkpoints=1, completions_every=5),
    )
