"""Router scores: what routers say of experts, read off the routers themselves."""

import torch

from steadyrl.policies.router_scores import router_scores
from tests.learners.small import sampled_batch, tiny_policy


def test_scores_are_the_routers_own_softmax_at_the_experts_chosen() -> None:
    policy = tiny_policy()
    batch = sampled_batch(policy)
    assert policy.hook is not None
    seen: list[torch.Tensor] = []
    handles = [
        router.register_forward_hook(
            lambda module, args, _output: seen.append(args[0].detach() @ module.weight.T)
        )
        for router in policy.hook.routers
    ]
    scores = router_scores(policy, batch.tokens)
    for handle in handles:
        handle.remove()

    shape = tuple(batch.tokens.shape)
    for layer, logits in enumerate(seen):
        probable = logits.detach().log_softmax(dim=-1).unflatten(0, shape)
        best = probable.topk(policy.hook.experts_per_token, dim=-1)
        assert torch.equal(scores.experts[:, :, layer].long(), best.indices)
        torch.testing.assert_close(scores.logprobs[:, :, layer], best.values)
    assert len(seen) == policy.hook.num_layers


def test_the_shift_is_zero_until_weights_move_and_speaks_of_the_old_experts() -> None:
    policy = tiny_policy()
    tokens = sampled_batch(policy).tokens
    before = router_scores(policy, tokens)
    assert torch.equal(
        before.shift(router_scores(policy, tokens, of=before)), torch.zeros(tokens.shape)
    )

    with torch.no_grad():
        for router in policy.hook.routers:
            router.weight.mul_(1.5)
    after = router_scores(policy, tokens, of=before)
    shift = before.shift(after)

    assert torch.equal(after.experts, before.experts)
    assert (shift[:, 0] == 0).all()
    assert (shift[:, 1:] > 0).all()
    expected = (after.logprobs - before.logprobs).abs().flatten(2).mean(dim=2)
    torch.testing.assert_close(shift[:, 1:], expected[:, :-1])
