"""W1: the demo's model, after a short cold start, so that it writes answers and ends them."""

import shutil
from pathlib import Path

import torch
from benchmarks.performance.worlds import World, sources_digest

from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_styles import Style
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacherSettings
from steadyrl.learners.protocol import TRAINER_STATE
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.training.checkpoint import PLACE, latest_checkpoint

COLD_START_STEPS = 400
EQUATIONS = ArithmeticTeacherSettings(style=Style.EQUATIONS, error_rate=0.25)
"""Every step is written as an equation: about 20 tokens, where the demo's own style takes 8."""


HEADS_OF_32 = {"heads": 2, "kv_heads": 1, "head_dim": 32}
"""As many weights and as much arithmetic as the demo's 4 heads of 16, in heads vLLM can compute."""


def demo_world(work: Path, device: torch.device) -> World:
    """W1. Its cold start is made once for each state of the sources, in `work`."""
    return _world(RECIPES["demo"](), work / "w1", device)


def demo_twin(work: Path, device: torch.device) -> World:
    """W1 for vLLM on the CPU, which refuses heads of 16."""
    config = RECIPES["demo"]()
    twin = config.model.model_copy(update=HEADS_OF_32)
    return _world(config.model_copy(update={"model": twin}), work / "w1-twin", device)


def _world(config: RunConfig, folder: Path, device: torch.device) -> World:
    assert config.cold_start is not None
    assert isinstance(config.environment, ArithmeticSettings)
    short = config.cold_start.model_copy(update={"teacher": EQUATIONS, "steps": COLD_START_STEPS})
    return World(
        name="W1",
        checkpoint=cold_started(config.model_copy(update={"cold_start": short}), folder),
        environment=Arithmetic(config.environment),
        prompts=32,
        group_size=8,
        max_new_tokens=32,
        device=device,
    )


def cold_started(config: RunConfig, folder: Path) -> Path:
    """The model after the cold start of `config`, made if these sources have not made it yet.

    The folder holds what `from_pretrained` reads, and not the trainer's state beside it.
    """
    run = RunFolder(folder.with_name(f"{folder.name}-{sources_digest()}"))
    model = run.path / "model"
    if not model.is_dir():
        if latest_checkpoint(run) is None:
            start_run(_cold_start_alone(config), run.path)
        checkpoint = latest_checkpoint(run)
        assert checkpoint is not None
        shutil.copytree(checkpoint, model, ignore=shutil.ignore_patterns(TRAINER_STATE, PLACE))
    return model


def _cold_start_alone(config: RunConfig) -> RunConfig:
    one_task = config.evaluation.model_copy(update={"tasks": 1, "samples": 1})
    return config.model_copy(update={"steps": 0, "evaluation": one_task})
