r"""MiniRL (arXiv:2512.01374) of a pretrained model.

    steadyrl train minirl --model Qwen/Qwen3-0.6B
    steadyrl train minirl --environment math --environment.path problems.jsonl \
        --environment.answer-format boxed

The paper gives no learning rate; 1e-6 is the one of arXiv:2510.11370 for similar models. A
mini-batch is 64 prompts with 16 responses each. For memory see `experiential`.
"""

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.run.config import RunConfig
from steadyrl.training.journal import JournalSettings


def minirl() -> RunConfig:
    """MiniRL of a pretrained model on puzzles of reasoning-gym, or on custom problems."""
    return RunConfig(
        model=Pretrained(path="Qwen/Qwen3-0.6B"),
        environment=ReasoningGymSettings(dataset="countdown", answer_format=AnswerFormat.BOXED),
        algorithm=PolicyGradientSettings(prompts=64, group_size=16),
        steps=200,
        sampling=Sampling(max_new_tokens=2048),
        engine=LocalEngineSettings(max_running=64),
        learner=LocalLearnerSettings(dtype="bfloat16", activation_checkpointing=True),
        optimizer=OptimizerSettings(learning_rate=1e-6, weight_decay=0.01),
        evaluation=EvaluationSettings(tasks=256, samples=4),
        evaluate_every=10,
        journal=JournalSettings(checkpoint_every=20, keep_checkpoints=1, completions_every=5),
    )
