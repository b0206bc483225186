"""Models that a command measures: the last checkpoint of a run, or a checkpoint by itself."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from steadyrl.base.errors import UserError
from steadyrl.base.progress import Progress
from steadyrl.cli.open_run import open_run
from steadyrl.engines.driver import drive
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import saved_config
from steadyrl.run.memory_check import require_memory_to_measure
from steadyrl.training.checkpoint import latest_checkpoint, load_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """A model, and the configuration under which it is measured."""

    name: str
    config: RunConfig

    checkpoint: Path | None = None
    """The checkpoint of a run, whose files are verified; None: the model's own path is loaded."""

    @classmethod
    def at(cls, name: str, config: RunConfig) -> "MeasuredModel":
        """The model in the folder `name`, or of that name on the hub, measured as `config` says.

        Raises:
            UserError: there is none, or the run has no checkpoint yet.
        """
        path = Path(name)
        if is_checkpoint(name):
            model = Pretrained(path=name)
            return cls(name=name, config=config.model_copy(update={"model": model}))
        folder = open_run(path)
        checkpoint = latest_checkpoint(folder)
        if checkpoint is None:
            raise UserError(f"{path} has no checkpoint yet. Let it run to its first one.")
        own = saved_config(folder)
        return cls(
            name=f"{name} ({checkpoint.name})",
            config=config.model_copy(
                update={
                    "model": own.model,
                    "seed": own.seed,
                    "learner": config.learner.model_copy(update={"lora": own.learner.lora}),
                }
            ),
            checkpoint=checkpoint,
        )

    def assemble(self, progress: Progress) -> Assembly:
        """The parts that sample from the model.

        Raises:
            UserError: the model does not fit into memory, the checkpoint is damaged, or parts do
                not fit together.
        """
        tokenizer = load_tokenizer(self.config.model)
        require_memory_to_measure(self.config, tokenizer, moments=self.checkpoint is not None)
        assembly = Assembly.of(self.config, tokenizer=tokenizer, progress=progress)
        with ExitStack() as stack:
            stack.callback(assembly.close)
            if self.checkpoint is not None:
                progress.begin("loading the checkpoint")
                load_checkpoint(self.checkpoint, assembly.learner)
            drive(assembly.engine.sync(assembly.learner.publish()))
            stack.pop_all()
        return assembly


def is_checkpoint(name: str) -> bool:
    """Whether `name` is a model folder, a GGUF file or, failing both, a name on the Hub."""
    path = Path(name)
    if path.exists():
        held = ((path / name).is_file() for name in ("config.json", "adapter_config.json"))
        is_folder = any(held) and not (path / "config.yaml").is_file()
        return is_folder or path.suffix == ".gguf"
    return name.count("/") == 1 and not name.startswith((".", "/", "~", "runs/"))


def settings_of(names: Sequence[str], *, names_tasks: bool) -> RunConfig:
    """Under which configuration the models of `names` are measured, if nothing else is asked.

    Args:
        names_tasks: The tasks are chosen by options.

    Raises:
        UserError: neither a run nor options say what the tasks are.
    """
    for name in names:
        for folder in (Path(name), *Path(name).resolve().parents[1:2]):
            if (folder / "config.yaml").is_file():
                return _without_training(saved_config(RunFolder(folder)))
    if names and not names_tasks:
        if not all(map(is_checkpoint, names)):
            open_run(Path(next(name for name in names if not is_checkpoint(name))))
        raise UserError(
            f"{names[0]} is a checkpoint by itself, so nothing says on which tasks to measure it. "
            "Name them with --environment and its settings, or put a run beside it, whose "
            "tasks are taken."
        )
    return _without_training(RECIPES["minirl"]())


def _without_training(config: RunConfig) -> RunConfig:
    """The settings of `config` that a measurement uses, without those of training."""
    kept = ("seed", "threads", "model", "environment", "sampling", "learner", "evaluation")
    engine = config.engine.model_copy(update={"overlap": False, "max_staleness": None})
    return RunConfig(engine=engine, **{name: getattr(config, name) for name in kept})
