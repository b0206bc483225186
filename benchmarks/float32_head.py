"""What a float32 output head is worth in bfloat16: the mismatch with it in engine, trainer or both.

    python benchmarks/float32_head.py
    python benchmarks/float32_head.py CHECKPOINT --tokens 48

Without a checkpoint, a small random model is measured whose logits are as wide as a trained one's.
Each engine samples once, in bfloat16; each trainer, in bfloat16, scores both samples.
"""

from typing import Annotated, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import generate_all
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.objectives.kl import k3
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.loading import load_model, load_tokenizer, set_dtype
from steadyrl.policies.model_settings import ModelSettings, Pretrained, SmallDense
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion

RANDOM_LOGITS = 4.0
"""Standard deviation of the random model's logits, about that of a trained one."""


class Options(Settings):
    """Measure the mismatch with and without float32 heads."""

    model: Annotated[str | None, Positional()] = None
    """Folder of a pretrained model; none: a small random one."""

    seed: int = 0
    """Seed of the random model and of the sampling."""

    answers: int = 16
    """Sampled answers, of as many prompts."""

    tokens: int = 64
    """Tokens of each answer at most."""


def main(options: Options) -> None:
    """Prints one row for each pair of heads."""
    torch.set_num_threads(1)
    policies = {head: policy(options, head) for head in get_args(HeadDtype)}
    print("engine   trainer        k3   mean |dlogp|   max |dlogp|   correlation   tokens")
    for head in policies:
        answers = sample(options, policies[head], head)
        rollout = torch.cat([answer.logprobs for answer in answers]).double()
        for trainer, scoring in policies.items():
            scores = torch.cat([score(scoring, answer) for answer in answers]).double()
            apart = (scores - rollout).abs()
            both = torch.stack([scores.exp(), rollout.exp()])
            print(
                f"{head:8} {trainer:8} {float(k3(rollout, scores).mean()):8.2e}   "
                f"{float(apart.mean()):12.2e}   {float(apart.max()):11.2e}   "
                f"1 - {1 - float(torch.corrcoef(both)[0, 1]):7.1e}   {len(scores):6}",
                flush=True,
            )


def policy(options: Options, head: HeadDtype) -> Policy:
    """A bfloat16 trainer's policy."""
    settings: ModelSettings = SmallDense(width=256, layers=6, mlp_width=768)
    if options.model is not None:
        settings = Pretrained(path=options.model)
    tokenizer = load_tokenizer(settings)
    model = load_model(settings, tokenizer=tokenizer, seed=options.seed)
    if options.model is None:
        generator = torch.Generator().manual_seed(options.seed)
        with torch.no_grad():  # the root mean square of the last states is 1
            weight = model.get_output_embeddings().weight
            weight.normal_(std=RANDOM_LOGITS / 256**0.5, generator=generator)
    set_dtype(model, torch.bfloat16, head)
    return Policy(model, tokenizer)


def sample(options: Options, policy: Policy, head: HeadDtype) -> list[Completion]:
    """Answers of a bfloat16 engine with this head."""
    model = EngineModel(
        policy,
        numerics=Numerics.BFLOAT16,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=False,
        head_dtype=head,
    )
    prompts = [f"Explain in a few words what {n} times {n + 3} is." for n in range(options.answers)]
    requests = [
        Request(
            prompt_ids=prompt(policy, text),
            num_completions=1,
            seed=options.seed + number,
            sampling=Sampling(max_new_tokens=options.tokens),
        )
        for number, text in enumerate(prompts)
    ]
    engine = LocalEngine(model, max_running=options.answers)
    answers = generate_all(engine, requests)
    return [completion for completions in answers for completion in completions]


def prompt(policy: Policy, text: str) -> Tensor:
    """Tokens of a conversation that begins with `text`."""
    rendered = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    return torch.tensor(policy.tokenizer(rendered, add_special_tokens=False)["input_ids"])


@torch.no_grad()
def score(policy: Policy, answer: Completion) -> Float[Tensor, " T"]:
    """The trainer's log-probabilities of the answer's tokens."""
    tokens = torch.cat([answer.prompt_ids, answer.token_ids])[None]
    asked = torch.arange(tokens.shape[1])[None] >= len(answer.prompt_ids)
    scores = policy.score(tokens, torch.ones_like(asked), asked)
    return scores.logprobs[asked]


if __name__ == "__main__":
    main(script_options(Options))
