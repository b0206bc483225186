"""Options of other trainers are answered with ours, and ours are left alone."""

import re

import pytest

from steadyrl.base.errors import UserError
from steadyrl.cli.foreign_options import INSTEAD, NOT_YET, refuse_foreign_options
from steadyrl.cli.option_names import option_names
from steadyrl.cli.train import TrainOptions, described
from steadyrl.recipes import RECIPES
from steadyrl.run.config import RunConfig


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_option_of_ours_is_taken_for_a_foreign_one(recipe: str) -> None:
    names = option_names(RunConfig, RECIPES[recipe]().model_dump())
    refuse_foreign_options([f"--{name}" for name in [*names, "out", "published", "model"]])
    refuse_foreign_options([f"--{name}=3" for name in names])
    refuse_foreign_options(["--environment.path", "a.b=c.jsonl"])


def test_what_is_named_instead_is_there() -> None:
    values = RECIPES["minirl"]().model_dump()
    values["learner"]["lora"] = {}
    known = {f"--{name}" for name in option_names(RunConfig, values)}
    known |= {"--model", "--resume", "--engine.numerics", "--engine.url", "--engine.options"}
    known |= {"--learner.ranks", "--placement.engines"}  # of fsdp and ray
    known |= {f"--{name}" for name in option_names(TrainOptions, {})}
    own = ("path", "columns.prompt", "columns.answer", "rewards")
    known |= {f"--environment.{name}" for name in own}
    for text in [*INSTEAD.values(), *NOT_YET.values()]:
        for option in re.findall(r"--[a-z][\w.-]*[\w]", text):
            assert option in known, text


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--gradient-checkpointing", "Use --learner.activation-checkpointing true."),
        ("--lora.r", "Use --learner.lora.rank."),
        ("--lora_alpha", "Use --learner.lora.alpha."),
        ("--use-peft", "Use --learner.lora.rank, which turns LoRA on."),
        ("--lora_dropout", "no dropout in adapters, under which ratios"),
        ("--report-to", "--trackers jsonl tensorboard wandb"),
        ("--num-generations", "Use --algorithm.group-size."),
        ("--per_device_train_batch_size", "Use --algorithm.prompts for what one"),
        ("--max-completion-length=512", "Use --sampling.max-new-tokens."),
        ("--beta", "Use --algorithm.reference-kl.coefficient."),
        ("--epsilon", "Use --algorithm.objective.clip-low and .clip-high."),
        ("--use-vllm", "Use --engine vllm"),
        ("--epochs", "Use --steps: a run counts rollouts"),
        ("--bf16", "Use --learner.dtype bfloat16."),
        ("--output-dir", "Use --out."),
        ("--tensor_parallel_size", "no tensor parallelism of the learner; --learner fsdp shards"),
        ("--nproc_per_node", "Use --learner fsdp --learner.ranks"),
        ("--nnodes", "Use --placement ray --learner fsdp"),
        ("--vllm_num_engines", "Use --placement ray --placement.engines."),
        ("--run-name", "Use --out, which names"),
    ],
)
def test_an_option_of_another_trainer_has_a_hint(option: str, told: str) -> None:
    with pytest.raises(
        UserError, match=re.escape(f"There is no option {option.split('=')[0]}")
    ) as e:
        described(["minirl", option, "3"])
    assert told in str(e.value)
