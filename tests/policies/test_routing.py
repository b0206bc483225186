"""Recording and replaying routes, on every family that is supported."""

import pytest
import torch
from torch import Tensor
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DogeConfig,
    DogeForCausalLM,
    LongcatFlashConfig,
    LongcatFlashForCausalLM,
)

from steadyrl.base.errors import UserError
from steadyrl.policies.policy import Policy
from steadyrl.policies.routers import find_routers
from steadyrl.policies.routing import RoutingHook
from steadyrl.policies.small_copy import Architecture
from steadyrl.policies.token_scores import TokenScores
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.routing import Routing
from tests.closeness import assert_close
from tests.policies.families import DEEPSEEK, FAMILIES, VOCABULARY, family_model, scaled_up
from tests.records.routings import changed

BATCH, LENGTH = 3, 7


def policy_of(family: str) -> Policy:
    return Policy(family_model(family), character_tokenizer())


def some_tokens(length: int = LENGTH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(2, VOCABULARY, (BATCH, length), generator=generator)
    return tokens, torch.ones(BATCH, length, dtype=torch.bool)


def other_routing(routing: Routing, num_experts: int) -> Routing:
    """Other experts, still distinct within each token."""
    return changed(routing, lambda experts: (experts + 1) % num_experts)


def score(policy: Policy, replay: Routing | None = None, record: bool = True) -> TokenScores:
    tokens, mask = some_tokens()
    return policy.score(tokens, mask, mask, replay=replay, record_routing=record)


@pytest.mark.parametrize("family", FAMILIES)
def test_replaying_own_routes_reproduces_logprobs_exactly(family: str) -> None:
    policy = policy_of(family)
    live = score(policy)
    assert live.routing is not None
    replayed = score(policy, replay=live.routing)
    assert torch.equal(replayed.logprobs, live.logprobs)
    assert torch.equal(replayed.entropy, live.entropy)


@pytest.mark.parametrize("family", FAMILIES)
def test_recording_does_not_change_logprobs(family: str) -> None:
    policy = policy_of(family)
    assert torch.equal(score(policy).logprobs, score(policy, record=False).logprobs)


@pytest.mark.parametrize("family", FAMILIES)
def test_replaying_other_routes_changes_every_row_and_is_what_was_used(family: str) -> None:
    policy = policy_of(family)
    assert policy.hook is not None
    live = score(policy)
    assert live.routing is not None
    other = other_routing(live.routing, policy.hook.num_experts)
    replayed = score(policy, replay=other)
    assert replayed.routing is not None
    assert torch.equal(replayed.routing.padded().experts, other.padded().experts)
    differs = (replayed.logprobs - live.logprobs).abs().amax(dim=1)
    assert (differs > 1e-4).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_route_changed_at_one_token_changes_that_token_and_later_ones_only(family: str) -> None:
    policy = policy_of(family)
    assert policy.hook is not None
    live = score(policy)
    assert live.routing is not None
    experts = live.routing.padded().experts.clone()
    experts[1, 3] = (experts[1, 3] + 1) % policy.hook.num_experts
    other = Routing.of(experts, live.routing.known, some_tokens()[0])
    found = score(policy, replay=other).logprobs.detach()
    assert (found[1, 4:] != live.logprobs[1, 4:]).any()
    found[1, 4:] = live.logprobs[1, 4:]
    assert_close(found, live.logprobs)


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_experts_are_the_top_of_the_router(family: str) -> None:
    """Against an independent reading: a hook on the experts' own input."""
    policy = policy_of(family)
    assert policy.hook is not None
    seen: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _m, args: seen.append(args[1]))
        for module in policy.model.modules()
        if hasattr(module, "gate_up_proj") and module.gate_up_proj.__class__.__name__ == "Parameter"
    ]
    routing = score(policy).routing
    assert routing is not None
    assert len(handles) == len(seen) == policy.hook.num_layers
    expected = torch.stack([rows.view(BATCH, LENGTH, -1) for rows in seen], dim=2)
    assert torch.equal(routing.padded().experts.long(), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_router_keeps_its_gradient_under_replay(family: str) -> None:
    policy = policy_of(family)
    assert policy.hook is not None
    live = score(policy)
    assert live.routing is not None
    other = other_routing(live.routing, policy.hook.num_experts)
    score(policy, replay=other).logprobs.sum().backward()
    for router in policy.hook.routers:
        gradient = next(p for n, p in router.named_parameters() if n.endswith("weight")).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_gradients_equal_plain_ones_with_micro_batches_in_flight(family: str) -> None:
    tokens, mask = some_tokens()

    def gradients(checkpointed: bool) -> dict[str, Tensor]:
        policy = policy_of(family)
        assert policy.hook is not None
        live = score(policy).routing
        assert live is not None
        replay = other_routing(live, policy.hook.num_experts)
        if checkpointed:
            policy.enable_activation_checkpointing()
        losses = []
        for row in range(BATCH):  # all forward passes before any backward pass
            index = torch.tensor([row])
            micro = replay.rows(index, LENGTH)
            losses.append(
                policy.score(tokens[index], mask[index], mask[index], replay=micro).logprobs.sum()
            )
        for loss in reversed(losses):
            loss.backward()
        named = policy.model.named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}

    plain = gradients(False)
    assert plain
    assert_close(gradients(True), plain)


def test_recomputation_without_its_routing_is_refused() -> None:
    policy = policy_of("qwen3_moe")
    enable = getattr(policy.model, "activation_checkpointing_enable", None)
    (enable or policy.model.gradient_checkpointing_enable)({"use_reentrant": False})
    policy.model.train()
    loss = score(policy, record=False).logprobs.sum()
    with pytest.raises(RuntimeError, match="enable_activation_checkpointing"):
        loss.backward()


@pytest.mark.parametrize("watched", [False, True])
def test_every_backward_pass_over_a_checkpointed_graph_gives_the_plain_gradient(
    watched: bool,
) -> None:
    def gradients(checkpointed: bool) -> list[Tensor]:
        policy = policy_of("qwen3_moe")
        assert policy.hook is not None
        if checkpointed:
            policy.enable_activation_checkpointing()
        loss = score(policy, record=watched).logprobs.sum()
        weights = [router.weight for router in policy.hook.routers]
        passes = [torch.autograd.grad(loss, weights, retain_graph=True) for _ in range(2)]
        return [gradient for gradients in passes for gradient in gradients]

    plain, recomputed = gradients(False), gradients(True)
    assert len(plain) == len(recomputed) == 6
    for one, other in zip(plain, recomputed, strict=True):
        assert_close(other, one)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_neither_logprobs_nor_replay(family: str) -> None:
    policy = policy_of(family)
    tokens, mask = some_tokens()
    alone = policy.score(tokens, mask, mask, record_routing=True)
    assert alone.routing is not None

    def padded(values: Tensor) -> Tensor:
        width = (0, 0, 0, 0, 0, 3) if values.dim() == 4 else (0, 3)
        return torch.nn.functional.pad(values, width)

    longer, longer_mask = padded(tokens), padded(mask)
    scores = policy.score(longer, longer_mask, longer_mask, record_routing=True)
    assert scores.routing is not None
    inside = longer_mask.clone()
    inside[:, 0] = False  # the first token of a row has nothing before it
    expected = alone.logprobs[:, 1:].flatten()
    assert_close(scores.logprobs[inside], expected)
    experts, known = padded(alone.routing.padded().experts), padded(alone.routing.known)
    replay = Routing.of(experts, known, longer)
    replayed = policy.score(longer, longer_mask, longer_mask, replay=replay)
    assert_close(replayed.logprobs[inside], expected)


def test_missing_row_that_feeds_a_prediction_fails_closed() -> None:
    policy = policy_of("qwen3_moe")
    tokens, _ = some_tokens()
    routing = score(policy).routing
    assert routing is not None
    known = routing.known.clone()
    known[2, 4] = False
    holed = Routing.of(routing.padded().experts, known, tokens)
    with pytest.raises(RuntimeError, match=r"sequence 2, position 4"):
        score(policy, replay=holed)


def test_missing_row_of_the_last_token_is_allowed_and_routed_live() -> None:
    policy = policy_of("qwen3_moe")
    tokens, _ = some_tokens()
    live = score(policy)
    assert live.routing is not None
    known = live.routing.known.clone()
    known[:, -1] = False
    partial = Routing.of(live.routing.padded().experts, known, tokens)
    replayed = score(policy, replay=partial)
    assert replayed.routing is not None
    assert torch.equal(replayed.routing.padded().experts, live.routing.padded().experts)
    assert torch.equal(replayed.logprobs, live.logprobs)


@pytest.mark.parametrize("fault", ["shifted", "exchanged"])
def test_routes_of_other_tokens_are_refused(fault: str) -> None:
    policy = policy_of("qwen3_moe")
    tokens, mask = some_tokens()
    routing = score(policy).routing
    assert routing is not None
    if fault == "shifted":
        tokens = tokens.roll(1, dims=1)
    else:
        routing = routing.rows(torch.tensor([1, 0, 2]), LENGTH)
    with pytest.raises(RuntimeError, match="recorded on other tokens"):
        policy.score(tokens, mask, mask, replay=routing)


def test_routing_of_another_shape_is_refused() -> None:
    policy = policy_of("qwen3_moe")
    routing = score(policy).routing
    assert routing is not None
    fewer = changed(routing, lambda experts: experts[:, :2])
    with pytest.raises(UserError, match=r"\(3, 7, 2, 2\), expected .* \(3, 7, 3, 2\)"):
        score(policy, replay=fewer)


def test_a_layer_that_was_never_routed_is_noticed() -> None:
    policy = policy_of("qwen3_moe")
    assert policy.hook is not None
    with pytest.raises(RuntimeError, match="layer 0 was never routed"), policy.hook.watch((1, 2)):
        pass


def test_router_that_breaks_the_contract_is_refused_by_name() -> None:
    model = family_model("qwen3_moe")
    router = find_routers(model)[0]
    original = type(router).forward

    class TwoTuple(type(router)):  # type: ignore[misc]
        def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return original(self, hidden)[:2]

    router.__class__ = TwoTuple
    with pytest.raises(UserError, match="Qwen3MoeForCausalLM routes in a way"):
        RoutingHook(model)


def deepseek_v2(method: str) -> DeepseekV2ForCausalLM:
    config = DeepseekV2Config(
        **DEEPSEEK,
        num_experts_per_tok=3,
        n_group=4,
        topk_group=2,
        topk_method=method,
    )
    return DeepseekV2ForCausalLM(config)


def test_router_that_gives_replayed_experts_no_weight_is_refused_by_name() -> None:
    # It sets the scores of groups it did not choose to 0 before the top-k that replay answers.
    model = scaled_up(lambda: deepseek_v2("group_limited_greedy"))
    with pytest.raises(UserError, match=r"DeepseekV2ForCausalLM gives .* a gate weight of 0"):
        RoutingHook(model)
    assert not any("forward" in vars(router) for router in find_routers(model))


@pytest.mark.parametrize("family", ["deepseek_v2", *FAMILIES])
def test_every_replayed_expert_has_a_gate_weight(family: str) -> None:
    greedy = family == "deepseek_v2"
    model = scaled_up(lambda: deepseek_v2("greedy")) if greedy else family_model(family)
    policy = Policy(model, character_tokenizer())
    weights: list[Tensor] = []
    for module in model.modules():
        if hasattr(module, "gate_up_proj") and isinstance(module.gate_up_proj, torch.nn.Parameter):
            module.register_forward_pre_hook(lambda _m, args: weights.append(args[2]))
    live = score(policy).routing
    assert live is not None
    assert policy.hook is not None
    num_experts = policy.hook.num_experts
    for shift in range(num_experts):
        score(policy, replay=changed(live, lambda e, by=shift: (e + by) % num_experts))
    assert all((used > 0).all() for used in weights)
    assert len(weights) == policy.hook.num_layers * (1 + policy.hook.num_experts)


def test_a_model_is_hooked_once() -> None:
    policy = policy_of("qwen3_moe")
    with pytest.raises(UserError, match="already hooked"):
        RoutingHook(policy.model)


def test_a_family_that_chooses_experts_by_the_keys_of_their_product_is_refused_by_name() -> None:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1}
    config = DogeConfig(**sizes, num_attention_heads=2, is_moe=True, num_experts=16)
    with pytest.raises(UserError, match="DogeForCausalLM"):
        RoutingHook(DogeForCausalLM(config))


def test_experts_that_do_nothing_are_counted_among_those_to_choose_from() -> None:
    with torch.device("meta"):
        large = LongcatFlashForCausalLM(LongcatFlashConfig())
    model = Architecture.of(large).small_copy()
    assert model is not None
    hook = RoutingHook(model)
    assert hook.num_experts == model.config.n_routed_experts + model.config.zero_expert_num
