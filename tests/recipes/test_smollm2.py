"""The recipe of a real model, on that model: `make test-real`."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from steadyrl.cli.train import train_command
from steadyrl.environments.protocol import Split
from steadyrl.environments.reasoning_gym_tasks import ReasoningGym, ReasoningGymSettings
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.policies.upcycling import UpcyclingSettings, differences, upcycle
from steadyrl.recipes import RECIPES
from steadyrl.records.message import Message
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpoint import latest_checkpoint
from tests.driving import respond

MODEL = Path(__file__).parents[2] / "models" / "smollm2"
SMALL = (
    "--algorithm.prompts 4 --algorithm.group-size 8 --sampling.max-new-tokens 24 "
    "--evaluation.tasks 2 --evaluation.samples 1 --evaluation.drift never --evaluate-every 5"
)


def test_its_task_has_a_number_for_an_answer() -> None:
    settings = RECIPES["smollm2"]().environment
    assert isinstance(settings, ReasoningGymSettings)
    environment = ReasoningGym(settings)
    try:
        task = environment.task(Split.TRAIN, 0)
        right = f"That would be {task.payload['answer']}, I think."
        assert respond(environment.start(task), right).reward == 1.0
    finally:
        environment.close()


@pytest.fixture(scope="module")
def model() -> Path:
    assert (MODEL / "config.json").is_file(), f"{MODEL} is missing. Run: make real-model"
    return MODEL


def trained(model: Path, out: Path, *options: str) -> RunFolder:
    arguments = ["smollm2", "--model", str(model), "--out", str(out), *SMALL.split(), *options]
    train_command(arguments, Console(file=io.StringIO()))
    return RunFolder(out)


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    return dict(model.state_dict())


@pytest.mark.real
def test_it_answers_under_its_own_template(model: Path) -> None:
    settings = Pretrained(path=str(model))
    tokenizer = load_tokenizer(settings)
    policy = Policy(load_model(settings, tokenizer=tokenizer, seed=0), tokenizer)
    question = Message(role="user", content="What is the capital of France?")
    (prompt,) = encode_prompts(tokenizer, [[question]])
    text = tokenizer.decode(prompt)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("What is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    answer = policy.model.generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt)[None],
        do_sample=False,
        max_new_tokens=24,
    )[0, len(prompt) :]
    assert "Paris" in tokenizer.decode(answer)
    assert int(answer[-1]) in policy.end_token_ids


@pytest.mark.real
def test_a_run_resumes_to_the_same_bits_and_its_checkpoint_loads_back(
    model: Path, tmp_path: Path
) -> None:
    whole = trained(model, tmp_path / "whole", "--steps", "2")
    first = trained(model, tmp_path / "parts", "--steps", "1")
    after_one = weights(first)
    train_command(["--resume", str(first.path), "--steps", "2"], Console(file=io.StringIO()))

    resumed, through = weights(first), weights(whole)
    assert resumed.keys() == through.keys()
    assert all(torch.equal(resumed[name], through[name]) for name in through)
    begun = dict(AutoModelForCausalLM.from_pretrained(model).state_dict())
    for earlier, later in ((begun, after_one), (after_one, through)):
        assert any(not torch.equal(earlier[name], later[name]) for name in later)

    checkpoint = latest_checkpoint(whole)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(model).chat_template
    loaded = load_model(Pretrained(path=str(checkpoint)), tokenizer=tokenizer, seed=0)
    assert all(torch.equal(loaded.state_dict()[name], through[name]) for name in through)


@pytest.mark.real
def test_upcycled_it_computes_the_same(model: Path) -> None:
    settings = Pretrained(path=str(model))
    dense = load_model(settings, tokenizer=load_tokenizer(settings), seed=0)
    moe = upcycle(dense, UpcyclingSettings(experts=4, top_k=2, split=2))
    assert differences(dense, moe).max() < 1e-3
