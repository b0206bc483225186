"""The page of plans: recipes with the papers' settings, and published step times."""

from dataclasses import dataclass

from benchmarks.performance.plan_checks import checks
from docs.generator.markdown import page, paragraph, row

from steadyrl.base.wording import duration, short_number
from steadyrl.planning.costs import EngineCost, LearnerCost, rollout_seconds, sync_seconds
from steadyrl.planning.hardware import ACCELERATORS, CONSTANTS, Cluster
from steadyrl.planning.layout import Layout
from steadyrl.planning.lengths import ResponseLengths
from steadyrl.planning.plan import RunPlan, StepTime, plan_run, shape_of
from steadyrl.planning.settings import PlanSettings
from steadyrl.planning.workload import TrainedRow, Workload
from steadyrl.policies.model_settings import Pretrained
from steadyrl.recipes import RECIPES
from steadyrl.run.config import parse

ABOUT = """
What `steadyrl plan` says of the recipes with the papers' settings, and how far the same cost model
is from step times that others have published. How the numbers come about: [planning](planning.md).
None of these runs has been made here.
"""

SPREAD = """
Responses have half of their maximum length in mean where the command gives none, a spread of 0.6,
and prompts of 256 tokens. Experiential RL is planned as if every first attempt failed. The MiniRL
paper reports 5 to 6 GPU-hours for each update of the 30B model, without naming the GPU or the
lengths.
"""

ERRORS = """
GRPO with NeMo RL on DGX H100 in bfloat16, with Megatron: docs/about/performance-summary.md of
NVIDIA-NeMo/RL at 7ea279abf (release 0.6) and 06beed91 (0.4). The published mean lengths are used;
the spread (0.6), prompts of 150 tokens and 256 sequences per engine are assumed, and no constant
was fitted to these rows. The plan counts peaks and what is usually reached of them; it does not
count waiting, padding, messages of expert and pipeline parallelism, and rewards. So it is a lower
bound, and its errors are misses that stay.
"""

SMALL = """
W1 and W2 of [performance](performance.md#method), measured at edf920b on a quiet AMD EPYC with 2
cores, one thread, seed 0, against `python -m benchmarks.performance.plan_checks`. Small models
spend their time in small operations, whose duration the model knows only as one constant.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRecipe:
    """A recipe, and the options of its plan.

    Example:
        PlannedRecipe(recipe="minirl-30b-n4", gpus="64xH100")
    """

    recipe: str
    gpus: str
    model: str | None = None
    engine: str | None = None
    response_tokens: int | None = None

    @property
    def command(self) -> str:
        """The command that prints the plan."""
        options = {
            "--model": self.model,
            "--engine": self.engine,
            "--response-tokens": self.response_tokens,
        }
        given = [f" {name} {value}" for name, value in options.items() if value is not None]
        return f"steadyrl plan {self.recipe} --gpus {self.gpus}{''.join(given)}"

    def plan(self) -> RunPlan:
        """Its plan."""
        values = RECIPES[self.recipe]().model_dump()
        if self.model is not None:
            values["model"] = {"name": "pretrained", "path": self.model}
        if self.engine is not None:
            values["engine"] = {"name": self.engine}
        tokens = "auto" if self.response_tokens is None else self.response_tokens
        settings = PlanSettings(gpus=self.gpus, response_tokens=tokens)
        return plan_run(parse(values, self.recipe), settings)


PLANNED = (
    *[PlannedRecipe(recipe=f"minirl-30b-n{n}", gpus="64xH100") for n in (1, 2, 4, 8)],
    PlannedRecipe(recipe="minirl-next", gpus="128xH100"),
    *[
        PlannedRecipe(
            recipe=recipe, gpus="8xH100", model=model, engine="vllm", response_tokens=tokens
        )
        for model in ("Qwen/Qwen3-4B-Instruct-2507", "allenai/Olmo-3-7B-Instruct")
        for recipe, tokens in (
            ("erl-frozenlake", 1000),
            ("erl-sokoban", 2000),
            ("erl-hotpotqa", 1000),
        )
    ],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedStep:
    """A step time that NVIDIA publishes for GRPO with NeMo RL on DGX H100 in bfloat16.

    Example:
        PublishedStep(model="Qwen/Qwen3-30B-A3B", devices=32, sequences=2048, length=3203,
                      maximum=4096, tensor_parallel=2, seconds=192, release="0.6")
    """

    model: str
    devices: int

    engine_devices: int | None = None
    """None: the same devices sample and train."""

    sequences: int
    updates: int = 4
    length: int
    maximum: int
    tensor_parallel: int
    checkpointing: bool = False
    steps_ahead: int = 0
    seconds: float
    release: str

    def time(self) -> StepTime:
        """The planned step, with weights that stay where they compute, as in Megatron."""
        shape = shape_of(Pretrained(path=self.model))
        cluster = Cluster.parse(f"{self.devices}xH100")
        engines = self.engine_devices or self.devices
        layout = Layout(
            cluster=cluster, engine_devices=engines, tensor_parallel=self.tensor_parallel
        )
        length, prompt = float(self.length), PROMPT
        answer = length - prompt
        work = Workload(
            sequences=self.sequences,
            group=32,
            prompt=prompt,
            lengths=ResponseLengths(mean=answer, maximum=self.maximum - prompt, spread=0.6),
            rows=(TrainedRow(length=length, computed=length, answered=answer),),
            updates=self.updates,
            reference=False,
            steps_ahead=self.steps_ahead,
        )
        engine = EngineCost(
            shape=shape,
            accelerator=cluster.accelerator,
            tensor_parallel=self.tensor_parallel,
            itemsize=2,
        )
        learner = LearnerCost(
            shape=shape,
            cluster=cluster.with_devices(layout.learner_devices),
            itemsize=2,
            micro_batch_tokens=self.maximum,
            checkpointing=self.checkpointing,
            gathers=False,
        )
        return StepTime(
            rollout=rollout_seconds(
                engine,
                work,
                engines=layout.engines,
                slots=SLOTS,
                together=1 + self.steps_ahead,
            ),
            scoring=learner.scoring_seconds(work),
            update=learner.update_seconds(work),
            sync=sync_seconds(shape, cluster, 2, shared=layout.is_shared),
            overlaps=self.steps_ahead > 0,
        )


SLOTS = 256
"""Sequences that vLLM decodes at the same time by default."""

PROMPT = 150
"""Tokens assumed of a prompt of OpenMathInstruct-2."""

THIRTY = "Qwen/Qwen3-30B-A3B"
PUBLISHED = (
    PublishedStep(
        model=THIRTY, devices=32, sequences=2048, length=3203, maximum=4096,
        tensor_parallel=2, seconds=192, release="0.6",
    ),
    PublishedStep(
        model=THIRTY, devices=32, engine_devices=16, sequences=2048, length=3201, maximum=4096,
        tensor_parallel=2, steps_ahead=1, seconds=152, release="0.6",
    ),
    PublishedStep(
        model=THIRTY, devices=192, engine_devices=64, sequences=2048, length=3206, maximum=4096,
        tensor_parallel=2, steps_ahead=8, seconds=34.5, release="0.6",
    ),
    PublishedStep(
        model=THIRTY, devices=32, sequences=2048, length=3154, maximum=4096,
        tensor_parallel=4, seconds=225, release="0.4",
    ),
    PublishedStep(
        model="Qwen/Qwen3-235B-A22B", devices=128, sequences=512, updates=1, length=5698,
        maximum=8192, tensor_parallel=16, checkpointing=True, seconds=395, release="0.6",
    ),
    PublishedStep(
        model="Qwen/Qwen3-235B-A22B", devices=256, sequences=512, updates=1, length=5713,
        maximum=8192, tensor_parallel=16, checkpointing=True, seconds=312, release="0.6",
    ),
    PublishedStep(
        model="Qwen/Qwen3-32B", devices=32, sequences=2048, length=3206, maximum=4096,
        tensor_parallel=4, seconds=393, release="0.4",
    ),
    PublishedStep(
        model="meta-llama/Llama-3.1-8B-Instruct", devices=16, sequences=2048, length=1060,
        maximum=4096, tensor_parallel=1, checkpointing=True, seconds=97.7, release="0.4",
    ),
)  # fmt: skip
"""Rows of docs/about/performance-summary.md of NVIDIA-NeMo/RL, and of the recipes it names."""


def plans_page() -> str:
    """The plans of the recipes, the published step times, and the constants of the cost model."""
    return page(
        [
            "# Plans",
            "",
            paragraph(ABOUT),
            "",
            "## Recipes",
            "",
            paragraph(SPREAD),
            "",
            *_recipes(),
            "",
            "## Published step times",
            "",
            paragraph(ERRORS),
            "",
            *_published(),
            "",
            "## Small runs on one CPU core",
            "",
            paragraph(SMALL),
            "",
            *_small(),
            "",
            "## Devices",
            "",
            *_devices(),
            "",
            "## Constants",
            "",
            *_constants(),
        ]
    )


def _recipes() -> list[str]:
    columns = (
        "command", "layout", "needed, GB", "rollout, s", "scoring", "update", "sync", "step",
        "GPU-hours per update",
    )  # fmt: skip
    lines = [row(columns), row(["---"] * len(columns))]
    for planned in PLANNED:
        plan = planned.plan()
        time = plan.time
        needed = " and ".join(f"{memory.least / 1e9:.3g}" for memory in plan.devices.values())
        seconds = (time.rollout, time.scoring, time.update, time.sync)
        lines.append(
            row(
                [
                    f"`{planned.command}`",
                    str(plan.layout),
                    needed,
                    *map(_seconds, seconds),
                    duration(time.total),
                    short_number(float(f"{_gpu_hours(plan):.2g}")),
                ]
            )
        )
    return lines


def _gpu_hours(plan: RunPlan) -> float:
    """Of each optimizer step."""
    return plan.time.total * plan.layout.cluster.devices / 3600 / plan.work.updates


def _seconds(value: float) -> str:
    return short_number(float(f"{value:.2g}"))


def _published() -> list[str]:
    columns = (
        "model", "devices", "engines", "steps ahead", "published, s", "planned, s", "error",
        "rollout + scoring + update + sync", "NeMo RL",
    )  # fmt: skip
    lines = [row(columns), row(["---"] * len(columns))]
    for step in PUBLISHED:
        time = step.time()
        engines = step.engine_devices or step.devices
        parts = (time.rollout, time.scoring, time.update, time.sync)
        lines.append(
            row(
                [
                    step.model,
                    f"{step.devices}xH100",
                    f"{engines // step.tensor_parallel} of {step.tensor_parallel}",
                    str(step.steps_ahead),
                    f"{step.seconds:g}",
                    _seconds(time.total),
                    f"{time.total / step.seconds - 1:+.0%}",
                    " + ".join(map(_seconds, parts)),
                    step.release,
                ]
            )
        )
    return lines


def _small() -> list[str]:
    lines = [row(("", "planned", "measured", "error", "")), row(["---"] * 5)]
    return lines + [
        row(
            [
                check.what,
                f"{check.planned:.3g}",
                f"{check.measured:.3g}",
                f"{check.error:+.0%}",
                f"fixes {check.fixes}" if check.fixes else "",
            ]
        )
        for check in checks()
    ]


def _devices() -> list[str]:
    columns = (
        "device",
        "bfloat16, TFLOP/s",
        "FP8",
        "TB/s",
        "GB",
        "link, GB/s",
        "network",
        "source",
    )
    lines = [row(columns), row(["---"] * len(columns))]
    for name, device in ACCELERATORS.items():
        numbers = (
            device.bfloat16 / 1e12, device.fp8 / 1e12, device.bandwidth / 1e12, device.memory / 1e9,
            device.link / 1e9, device.network / 1e9,
        )  # fmt: skip
        lines.append(row([name, *[f"{number:.4g}" for number in numbers], device.source]))
    return lines


def _constants() -> list[str]:
    lines = [row(("constant", "value", "", "source")), row(["---"] * 4)]
    return lines + [
        row([f"`{name}`", f"{constant.value:g}", constant.about, constant.source])
        for name, constant in CONSTANTS.items()
    ]
