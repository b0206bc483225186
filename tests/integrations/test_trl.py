"""MiniRL and routing replay inside TRL's own training loop, on the CPU."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.closeness import assert_close

pytest.importorskip("trl")
pytestmark = [
    pytest.mark.trl,
    pytest.mark.filterwarnings("default"),  # what TRL and its dependencies warn of is theirs
]

from datasets import Dataset  # noqa: E402
from peft import LoraConfig  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from steadyrl.base.errors import UserError  # noqa: E402
from steadyrl.integrations.trl import MiniRLConfig, MiniRLTrainer, SteadyCallback  # noqa: E402
from steadyrl.integrations.trl_names import check_version  # noqa: E402
from steadyrl.objectives import Aggregation, MiniRL, TokenTerms, aggregate  # noqa: E402
from steadyrl.objectives import token_weights as weights_of  # noqa: E402
from steadyrl.policies.loading import load_model, load_tokenizer  # noqa: E402
from steadyrl.policies.model_settings import SmallDense, SmallMoE  # noqa: E402
from steadyrl.policies.policy import Policy  # noqa: E402

MOE = SmallMoE(layers=2, width=32, heads=2, kv_heads=1, expert_width=16)
DENSE = SmallDense(layers=2, width=32, heads=2, kv_heads=1, mlp_width=32)
PROMPTS = ["12+3=", "7+1=", "40-8=", "5+6="]
OFF_POLICY = {"gradient_accumulation_steps": 2, "steps_per_generation": 4}
"""Two optimizer steps a rollout."""


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]


def settings_for(folder: Path, **changed: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": 3,
        "logging_steps": 1.0,
        "learning_rate": 1e-2,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
        **changed,
    }


def trainer_for(folder: Path, kind: type = MiniRLTrainer, model: Any = MOE, **changed: Any) -> Any:
    keywords = {
        name: changed.pop(name)
        for name in ("callbacks", "rollout_func", "peft_config")
        if name in changed
    }
    tokenizer = load_tokenizer(model)
    config = MiniRLConfig if issubclass(kind, MiniRLTrainer) else GRPOConfig
    return kind(
        load_model(model, tokenizer=tokenizer, seed=1),
        reward_funcs=reward,
        args=config(**settings_for(folder, **changed)),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tokenizer,
        **keywords,
    )


def logged(trainer: Any, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


class Recording(MiniRLTrainer):
    """Keeps each micro-batch with the weights and the loss that it met."""

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        weights = {name: value.clone() for name, value in self._causal_model.state_dict().items()}
        vars(self).setdefault("seen", []).append((inputs, weights, loss.item()))
        return loss


REPLAYED = {"none": None, "r2": "old_routing", "r3": "rollout_routing"}
"""What TRL carries with its rows under each kind of replay."""


def our_loss(
    inputs: dict[str, Any], weights: dict[str, torch.Tensor], routing_replay: str
) -> float:
    """MiniRL's loss of a micro-batch by our own policy, which pads on the right."""
    tokenizer = load_tokenizer(MOE)
    model = load_model(MOE, tokenizer=tokenizer, seed=2)
    model.load_state_dict(weights)
    policy = Policy(model, tokenizer)
    parts, name = [], REPLAYED[routing_replay]
    for row in range(len(inputs["prompt_ids"])):
        mask = torch.cat([inputs["prompt_mask"][row], inputs["completion_mask"][row]]).bool()
        tokens = torch.cat([inputs["prompt_ids"][row], inputs["completion_ids"][row]])[mask][None]
        replay = None
        if name is not None:
            routing = inputs[name][row]
            replay = replace(routing, known=routing.known[:, mask])
        everything = torch.ones_like(tokens, dtype=torch.bool)
        with torch.no_grad():
            scores = policy.score(tokens, everything, everything, replay=replay)
        length = int(inputs["completion_mask"][row].sum())
        whole = inputs["completion_mask"].shape[1]
        parts.append(torch.nn.functional.pad(scores.logprobs[0, -length:], (0, whole - length)))
    loss_mask = inputs["completion_mask"].bool()
    terms = TokenTerms(
        logprobs=torch.stack(parts),
        old_logprobs=inputs["old_per_token_logps"],
        rollout_logprobs=inputs["sampling_per_token_logps"],
        advantages=inputs["advantages"][:, None].expand(loss_mask.shape),
        loss_mask=loss_mask,
    )
    weights_of_tokens = weights_of(loss_mask, torch.arange(4), Aggregation.TOKEN_SUM)
    return aggregate(MiniRL()(terms), weights_of_tokens).item()


@pytest.mark.parametrize("routing_replay", REPLAYED)
def test_loss_is_minirls(tmp_path: Path, routing_replay: str) -> None:
    trainer = trainer_for(tmp_path, Recording, routing_replay=routing_replay, **OFF_POLICY)
    trainer.train()

    assert len(trainer.seen) == 6  # three optimizer steps of two micro-batches
    moved = [inputs for inputs, _, _ in trainer.seen[2:4]]  # the second step of a rollout
    assert all("old_per_token_logps" in inputs for inputs in moved)
    for inputs, weights, loss in trainer.seen:
        assert loss == pytest.approx(our_loss(inputs, weights, routing_replay) / 2, abs=1e-6)
    assert max(logged(trainer, "mismatch_kl_k3")) < 1e-9
    assert logged(trainer, "staleness_kl_k3")[1] > 1e-4
    if routing_replay == "r3":
        assert logged(trainer, "routing_disagreement") == [0.0] * 3


def test_reward_rises(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path, routing_replay="r3", max_steps=20, per_device_train_batch_size=16
    )
    trainer.train()

    rewards = logged(trainer, "reward")
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


def test_live_routing_drifts_and_is_measured(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, **OFF_POLICY)
    trainer.train()

    assert logged(trainer, "routing_disagreement")[1] > 0.001
    names = ["ess", "surprisal_gap_z", "temperature_ratio", "truncated_weight_fraction"]
    assert all(len(logged(trainer, name)) == 3 for name in names)


def test_r2_replays_the_trainers_old_routes(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, Recording, routing_replay="r2", max_steps=2, **OFF_POLICY)
    trainer.train()

    for inputs, _, _ in trainer.seen:
        assert len(inputs["old_routing"]) == 4
    # The trainer's old routes are the rollout's but for rounding, however far the weights moved.
    assert max(logged(trainer, "routing_disagreement")) < 0.001


def test_checkpointing_takes_the_same_step(tmp_path: Path) -> None:
    weights = []
    for checkpointing in (False, True):
        trainer = trainer_for(
            tmp_path, routing_replay="r3", max_steps=1, gradient_checkpointing=checkpointing
        )
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
        trainer.train()
        weights.append(dict(trainer.model.named_parameters()))

    assert_close(weights[1], weights[0], terms=1024)


@pytest.mark.parametrize("routing_replay", ["r2", "r3"])
def test_a_rollout_may_serve_several_iterations(tmp_path: Path, routing_replay: str) -> None:
    trainer = trainer_for(
        tmp_path, Recording, routing_replay=routing_replay, num_iterations=2, max_steps=4
    )
    trainer.train()

    rollouts = [inputs["completion_ids"] for inputs, _, _ in trainer.seen]
    assert [torch.equal(one, other) for one, other in pairwise(rollouts)] == [True, False, True]
    for inputs, weights, loss in trainer.seen:
        assert loss == pytest.approx(our_loss(inputs, weights, routing_replay), abs=1e-6)
    stale = logged(trainer, "staleness_kl_k3")
    assert min(stale[1::2]) > 1e-4 > 1e-9 > max(stale[::2])
    assert max(logged(trainer, "routing_disagreement")) < 0.001


def test_epochs_see_all_prompts_again(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, routing_replay="r3", max_steps=-1, num_train_epochs=2.0)
    trainer.train()

    assert trainer.state.epoch == 2.0
    assert logged(trainer, "routing_disagreement") == [0.0] * (2 * len(PROMPTS))


@pytest.mark.parametrize(
    "targets",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    ],
    ids=["attention", "experts"],
)
def test_adapters_are_trained_under_replayed_routes(tmp_path: Path, targets: Any) -> None:
    adapter = LoraConfig(r=2, task_type="CAUSAL_LM", **targets)
    trainer = trainer_for(tmp_path, routing_replay="r3", peft_config=adapter, **OFF_POLICY)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()

    after = dict(trainer.model.named_parameters())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert logged(trainer, "routing_disagreement") == [0.0] * 3
    assert max(logged(trainer, "mismatch_kl_k3")) < 1e-9
    assert logged(trainer, "staleness_kl_k3")[1] > 0


class Faulty(MiniRLTrainer):
    """A fault between the rollout and the loss."""

    def _generate_and_score_completions(self, inputs: list[Any]) -> dict[str, Any]:
        rollout = super()._generate_and_score_completions(inputs)
        name = REPLAYED[self.args.routing_replay] or "rollout_routing"
        self.break_rollout(rollout, name)
        return rollout

    def break_rollout(self, rollout: dict[str, Any], name: str) -> None:
        raise NotImplementedError


class ShiftedRoutes(Faulty):
    def break_rollout(self, rollout: dict[str, Any], name: str) -> None:
        rollout[name] = [replace(row, known=row.known.roll(-1, dims=1)) for row in rollout[name]]


class PermutedRows(Faulty):
    def break_rollout(self, rollout: dict[str, Any], name: str) -> None:
        rollout[name] = rollout[name][::-1]


class OtherTokens(Faulty):
    def break_rollout(self, rollout: dict[str, Any], name: str) -> None:
        rollout["completion_ids"][:, 0] += 1


@pytest.mark.parametrize("routing_replay", REPLAYED)
@pytest.mark.parametrize("faulty", [ShiftedRoutes, PermutedRows, OtherTokens])
def test_routes_of_other_tokens_stop_the_training(
    tmp_path: Path, faulty: type, routing_replay: str
) -> None:
    trainer = trainer_for(tmp_path, faulty, routing_replay=routing_replay, **OFF_POLICY)

    with pytest.raises(RuntimeError, match="recorded on other tokens than it is replayed on"):
        trainer.train()


def test_a_rollout_function_may_bring_the_routes(tmp_path: Path) -> None:
    def rollout(prompts: list[str], trainer: MiniRLTrainer) -> dict[str, Any]:
        assert trainer.hook is not None
        prompt_ids = trainer.processing_class(text=prompts)["input_ids"]
        completion_ids = [[10 + row, 11, 12] for row in range(len(prompts))]
        logprobs, experts = [], []
        for before, after in zip(prompt_ids, completion_ids, strict=True):
            tokens = torch.tensor([before + after])
            with trainer.hook.record() as record, torch.no_grad():
                logits = trainer.model(input_ids=tokens, use_cache=False).logits[0]
            chosen = logits.log_softmax(-1)[len(before) - 1 : -1, after].diagonal()
            logprobs.append(chosen.tolist())
            routing = record.routing(tokens, torch.ones_like(tokens))
            experts.append(routing.padded().experts[0, :-1].numpy())
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": completion_ids,
            "logprobs": logprobs,
            "routed_experts": experts,
        }

    trainer = trainer_for(tmp_path, routing_replay="r3", max_steps=1, rollout_func=rollout)
    trainer.train()

    assert logged(trainer, "routing_disagreement") == [0.0]
    assert logged(trainer, "mismatch_kl_k3")[0] < 1e-9


def test_a_callback_changes_nothing_that_grpo_learns(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [SteadyCallback()]):
        trainer = trainer_for(tmp_path, GRPOTrainer, DENSE, max_steps=2, callbacks=callbacks)
        trainer.train()
        weights.append(trainer.model.state_dict())

    assert all(torch.equal(value, weights[0][name]) for name, value in weights[1].items())
    assert callbacks[0].diagnosis.steps == 2
    assert "mismatch_kl_k3" in callbacks[0].diagnosis.missing


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"beta": 0.1}, "does not support beta=0.1. Set it to 0.0"),
        ({"loss_type": "dapo"}, "does not support loss_type='dapo'"),
        ({"routing_replay": "r4"}, "Set it to one of none, r2, r3"),
        ({"routing_replay": "r2"}, "'r2' changes nothing with one optimizer step"),
        ({"routing_replay": "r3", "hook_routing": False}, "Set hook_routing to True"),
        ({"routing_replay": "r3", "pad_to_multiple_of": 8}, "Leave pad_to_multiple_of out"),
        ({"top_p": 0.9}, "top_p is 0.9, so tokens are sampled from other probabilities"),
        ({"top_k": 20, "use_vllm": True}, "top_k is 20, so tokens are sampled from other"),
        ({"routing_replay": "r3", "use_vllm": True}, "TRL's vLLM client drops the routed experts"),
        ({"routing_replay": "r3", "model": DENSE}, "Qwen3ForCausalLM has no experts"),
    ],
)
def test_what_is_not_supported_is_told(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        trainer_for(tmp_path, **changed)


def test_filters_of_the_checkpoint_are_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(DENSE)
    model = load_model(DENSE, tokenizer=tokenizer, seed=1)
    model.generation_config.min_p = 0.1
    with pytest.raises(UserError, match=r"generation_config\.json of the model sets min_p to 0\.1"):
        MiniRLTrainer(
            model,
            reward_funcs=reward,
            args=MiniRLConfig(**settings_for(tmp_path)),
            train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
            processing_class=tokenizer,
        )


def test_plain_settings_of_trl_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes a MiniRLConfig, got GRPOConfig"):
        MiniRLTrainer("unused", reward_funcs=reward, args=GRPOConfig(**settings_for(tmp_path)))


@pytest.mark.parametrize("installed", ["1.13.0", "1.17.0", "0.29.1", "1.1.4"])
def test_another_version_is_refused(installed: str) -> None:
    with pytest.raises(UserError, match=rf"supports TRL 1\.14 to 1\.16, got {installed}"):
        check_version(installed)
