import torch

from steadyrl.objectives import Reinforce, TokenTerms


def test_reinforce_is_advantage_times_log_probability(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    value = Reinforce()(terms)
    value.sum().backward()
    for i, t in terms.loss_mask.nonzero().tolist():
        advantage = terms.advantages[i, t].item()
        assert value[i, t].item() == advantage * terms.logprobs[i, t].item()
        assert terms.logprobs.grad[i, t].item() == advantage


def test_reinforce_gradient_is_the_gradient_of_the_expected_reward() -> None:
    # All three outcomes of a categorical policy, each weighted by its probability.
    logits = torch.tensor([0.3, -1.0, 0.8], requires_grad=True)
    rewards = torch.tensor([1.0, 0.0, 2.5])
    logprobs = logits.log_softmax(0).unsqueeze(1)
    probabilities = logprobs.detach().exp()
    terms = TokenTerms(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        rollout_logprobs=logprobs.detach(),
        advantages=rewards.unsqueeze(1),
        loss_mask=torch.ones(3, 1, dtype=torch.bool),
    )
    (estimated,) = torch.autograd.grad((probabilities * Reinforce()(terms)).sum(), logits)
    (exact,) = torch.autograd.grad((logits.softmax(0) * rewards).sum(), logits)
    torch.testing.assert_close(estimated, exact)
