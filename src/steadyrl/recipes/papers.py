r"""MiniRL at the size of its paper (arXiv:2512.01374): models of 30 and 80 billion parameters.

    steadyrl plan minirl-30b-n4 --gpus 64xH100
    steadyrl train minirl-30b-n4 --environment math --environment.path problems.jsonl \
        --environment.answer-format boxed

A mini-batch is 64 prompts with 16 responses of up to 32,768 tokens, and N mini-batches make a step.
Replay follows the paper's findings: none for N = 1, R2 for N = 2, R3 from N = 4 on. Rollouts are
FP8 and training is bfloat16.

The paper does not give, and these recipes choose: the learning rate (1e-6, of arXiv:2510.11370 for
the same model), AdamW's other settings, and the problems. Its cold start, supervised training of
the base model on unpublished data, is not included: give its checkpoint as `--model`.

`docs/plans.md` has their plans. They have not been run: no such cluster is at hand.
"""

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig
from steadyrl.training.journal import JournalSettings

GRADIENT_STEPS = 1024
"""Optimizer steps of each recipe of the 30B model, whatever the number of mini-batches."""


def minirl_30b_n1() -> RunConfig:
    """MiniRL of Qwen3-30B-A3B on-policy, as in figure 1 of its paper."""
    return _thirty_billion(mini_batches=1, replay=RoutingReplay.NONE)


def minirl_30b_n2() -> RunConfig:
    """MiniRL of Qwen3-30B-A3B with 2 mini-batches and R2, as in figure 2 of its paper."""
    return _thirty_billion(mini_batches=2, replay=RoutingReplay.R2)


def minirl_30b_n4() -> RunConfig:
    """MiniRL of Qwen3-30B-A3B with 4 mini-batches and R3, as in figure 3 of its paper."""
    return _thirty_billion(mini_batches=4, replay=RoutingReplay.R3)


def minirl_30b_n8() -> RunConfig:
    """MiniRL of Qwen3-30B-A3B with 8 mini-batches and R3, as in figure 4 of its paper."""
    return _thirty_billion(mini_batches=8, replay=RoutingReplay.R3)


def minirl_next() -> RunConfig:
    """MiniRL of a hybrid, Qwen3-Next-80B-A3B, with 2 mini-batches and R2, as in its figure 5.

    The paper's own model of this family is smaller and not published.
    """
    return _paper(
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        algorithm=PolicyGradientSettings(prompts=128, group_size=16, mini_batches=2),
        replay=RoutingReplay.R2,
        tokens=65_536,
        steps=300,
    )


def _thirty_billion(*, mini_batches: int, replay: RoutingReplay) -> RunConfig:
    return _paper(
        "Qwen/Qwen3-30B-A3B-Base",
        algorithm=PolicyGradientSettings(prompts=64, group_size=16, mini_batches=mini_batches),
        replay=replay,
        tokens=32_768,
        steps=GRADIENT_STEPS // mini_batches,
    )


def _paper(
    model: str,
    *,
    algorithm: PolicyGradientSettings,
    replay: RoutingReplay,
    tokens: int,
    steps: int,
) -> RunConfig:
    """Common settings: section 4 of the paper."""
    return RunConfig(
        model=Pretrained(path=model),
        environment=ReasoningGymSettings(dataset="countdown", answer_format=AnswerFormat.BOXED),
        algorithm=algorithm,
        routing_replay=replay,
        steps=steps,
        sampling=Sampling(max_new_tokens=tokens),
        engine=VllmSettings(
            max_positions=tokens + 2048,
            options={"quantization": "fp8", "tensor_parallel_size": 4},
        ),
        learner=FsdpLearnerSettings(ranks=32, dtype="bfloat16", activation_checkpointing=True),
        optimizer=OptimizerSettings(learning_rate=1e-6, weight_decay=0.01),
        evaluation=EvaluationSettings(tasks=90, samples=32),
        evaluate_every=16,
        journal=JournalSettings(checkpoint_every=16, keep_checkpoints=1, completions_every=16),
    )
