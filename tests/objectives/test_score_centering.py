"""Score centering against sums over the whole vocabulary (arXiv:2609.20807)."""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    RSPO,
    CandidateTerms,
    DualClip,
    Masking,
    MiniRL,
    MismatchLevel,
    NoCorrection,
    Objective,
    ReferenceKL,
    Reinforce,
    ScoreCentering,
    TokenTerms,
    Truncation,
)

VOCABULARY = 9
OFF = math.inf
TIS = MiniRL(clip_low=OFF, clip_high=OFF, weight_cap=2.0)
"""min(pi_theta / mu, 2) A log pi_theta: the paper's REINFORCE with truncated weights."""

INNER = {
    "reinforce": Reinforce(),
    "tis": TIS,
    "minirl": MiniRL(weight_cap=1.5),
    "grpo": GRPO(),
    "grpo_tis": Truncation().apply_to(GRPO()),
    "grpo_icepop": Masking().apply_to(GRPO()),
    "cispo": CISPO(),
    "dual_clip": DualClip(),
    "dppo": DPPO(threshold=0.05),
    "rspo": RSPO(),
}
every_objective = pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
both_signs = pytest.mark.parametrize("advantage", [0.7, -1.3])


@dataclass
class Place:
    """A place with a vocabulary under three policies. Gradients are by the trainer's logits."""

    logits: Tensor
    old: Tensor
    engine: Tensor

    @classmethod
    def of(cls, seed: int, mismatch: float = 0.6, staleness: float = 0.3) -> "Place":
        generator = torch.Generator().manual_seed(seed)

        def noise() -> Tensor:
            return torch.randn(VOCABULARY, generator=generator)

        logits = 1.5 * noise()
        old = logits + staleness * noise()
        engine = old + mismatch * noise()
        return cls(logits.clone().requires_grad_(), old.log_softmax(0), engine.log_softmax(0))

    @property
    def logprobs(self) -> Tensor:
        return self.logits.log_softmax(0)

    def terms(self, token: int, advantage: float, candidates: int | None) -> TokenTerms:
        """The terms of one sampled token after a token that carries no loss."""

        def row(values: Tensor) -> Tensor:
            return torch.stack([torch.full((), math.nan), values[token]])[None]

        terms = TokenTerms(
            logprobs=row(self.logprobs),
            old_logprobs=row(self.old),
            rollout_logprobs=row(self.engine),
            advantages=torch.tensor([[math.nan, advantage]]),
            loss_mask=torch.tensor([[False, True]]),
            router_shift=torch.tensor([[math.nan, 0.1]]),
        )
        if candidates is None:
            return terms
        head = self.engine.topk(candidates).indices
        return replace(
            terms,
            candidates=CandidateTerms(
                logprobs=self.logprobs[None, head],
                old_logprobs=self.old[None, head],
                rollout_logprobs=self.engine[None, head],
            ),
        )

    def gradient(self, objective: Objective, token: int, advantage: float, head: int) -> Tensor:
        """Gradient by the logits of a sampled token's objective."""
        terms = self.terms(token, advantage, head if objective.reads_candidates else None)
        value = objective(terms)
        assert value[0, 0].item() == 0
        return torch.autograd.grad(value.sum(), self.logits)[0]

    def score(self, token: int) -> Tensor:
        """grad log pi_theta(token)."""
        return torch.autograd.grad(self.logprobs[token], self.logits)[0]

    def expectation(self, of: Callable[[int], Tensor]) -> Tensor:
        """The mean of `of(token)` over what the engine samples."""
        chances = self.engine.exp()
        return sum(chances[v] * of(v) for v in range(VOCABULARY))

    def mean_gradient(self, objective: Objective, advantage: float) -> Tensor:
        """The mean of `gradient` over what the engine samples, whatever it is worth."""
        return self.expectation(lambda v: self.gradient(objective, v, advantage, VOCABULARY))


def centered(inner: Objective, candidates: int = VOCABULARY) -> Objective:
    return ScoreCentering(candidates=candidates).apply_to(inner)


@every_objective
@both_signs
def test_gradient_is_that_of_the_token_less_its_mean_over_the_vocabulary(
    inner: Objective, advantage: float
) -> None:
    for seed in range(5):
        place = Place.of(seed)
        mean = place.mean_gradient(inner, advantage)
        for token in range(VOCABULARY):
            own = place.gradient(inner, token, advantage, VOCABULARY)
            found = place.gradient(centered(inner), token, advantage, VOCABULARY)
            torch.testing.assert_close(found, own - mean, rtol=1e-9, atol=1e-9)


@every_objective
@both_signs
def test_its_mean_over_what_the_engine_samples_is_zero(inner: Objective, advantage: float) -> None:
    plain_means = []
    for seed in range(5):
        place = Place.of(seed)
        mean = place.mean_gradient(centered(inner), advantage)
        torch.testing.assert_close(mean, torch.zeros(VOCABULARY), rtol=0, atol=1e-9)
        plain_means.append(place.mean_gradient(inner, advantage).norm().item())
    assert max(plain_means) > 0.05


def test_reinforce_without_mismatch_is_left_as_it_is() -> None:
    place = Place.of(0, mismatch=0.0, staleness=0.0)
    for token in range(VOCABULARY):
        found = place.gradient(centered(Reinforce()), token, 0.7, VOCABULARY)
        torch.testing.assert_close(found, 0.7 * place.score(token), rtol=1e-9, atol=1e-9)


def test_what_is_left_is_the_covariance_of_advantage_and_score() -> None:
    # The paper's decomposition: E_mu[A s] = E_mu[A] E_mu[s] + Cov_mu(A, s), without the first term.
    advantages = torch.linspace(-1.0, 2.0, VOCABULARY)
    for seed, mismatch in ((0, 0.6), (1, 0.6), (2, 0.0)):
        place = Place.of(seed, mismatch=mismatch, staleness=mismatch)
        found = place.expectation(
            lambda v, place=place: place.gradient(
                centered(Reinforce()), v, advantages[v].item(), VOCABULARY
            )
        )
        drift = place.expectation(place.score)
        mean = place.engine.exp() @ advantages
        covariance = place.expectation(
            lambda v, place=place, mean=mean, drift=drift: (
                (advantages[v] - mean) * (place.score(v) - drift)
            )
        )
        torch.testing.assert_close(found, covariance, rtol=1e-9, atol=1e-9)
        if mismatch == 0:  # and on policy that is the gradient of the expected reward
            reward = (place.logits.softmax(0) * advantages).sum()
            torch.testing.assert_close(found, torch.autograd.grad(reward, place.logits)[0])


def test_untruncated_importance_weights_leave_nothing_to_subtract() -> None:
    exact = MiniRL(clip_low=OFF, clip_high=OFF, weight_cap=OFF)
    place = Place.of(3)
    for token in range(VOCABULARY):
        found, own = (place.gradient(by, token, 0.7, VOCABULARY) for by in (centered(exact), exact))
        torch.testing.assert_close(found, own, rtol=1e-9, atol=1e-9)


def by_the_head(place: Place, head: int, weigh: Callable[[Tensor], Tensor]) -> Tensor:
    """Equation 12: sum over the head of (q f(p / q) - alpha p) s, alpha = rho f(1 / rho)."""
    ids = place.engine.topk(head).indices
    p, q = place.logprobs.detach()[ids].exp(), place.engine[ids].exp()
    rho = (1 - q.sum()) / (1 - p.sum())
    coefficients = q * weigh(p / q) - rho * weigh(1 / rho) * p
    return sum(c * place.score(v) for c, v in zip(coefficients, ids.tolist(), strict=True))


WEIGHTS = {
    "none": (Reinforce(), torch.ones_like),
    "tis": (TIS, lambda ratio: ratio.clamp(max=2.0)),
}


@pytest.mark.parametrize(("inner", "weigh"), WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("head", [1, 3, 6, VOCABULARY - 1])
def test_other_tokens_count_as_the_trainer_distributes_them(
    inner: Objective, weigh: Callable[[Tensor], Tensor], head: int
) -> None:
    for seed in range(5):
        place = Place.of(seed, mismatch=1.0)
        mean = by_the_head(place, head, weigh)
        for token in range(VOCABULARY):  # in the head or not
            own = place.gradient(inner, token, 1.0, head)
            found = place.gradient(centered(inner, head), token, 1.0, head)
            torch.testing.assert_close(found, own - mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("inner", "weigh"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_mistakes_would_be_noticed(inner: Objective, weigh: Callable[[Tensor], Tensor]) -> None:
    # What the checks above distinguish: another sign, a head normalized by itself, no tail.
    place, head = Place.of(0, mismatch=1.0), 3
    ids = place.engine.topk(head).indices
    p, q = place.logprobs.detach()[ids].exp(), place.engine[ids].exp()
    alone = q / q.sum()

    def of_head(coefficients: Tensor) -> Tensor:
        return sum(c * place.score(v) for c, v in zip(coefficients, ids.tolist(), strict=True))

    right = by_the_head(place, head, weigh)
    wrong = {
        "sign": -right,
        "normalization": of_head(alone * weigh(p / alone)),
        "no tail": of_head(q * weigh(p / q)),
    }
    own = place.gradient(inner, 0, 1.0, head)
    found = place.gradient(centered(inner, head), 0, 1.0, head)
    assert (found - (own - right)).norm() < 1e-9
    for mistake in wrong.values():
        assert (found - (own - mistake)).norm() > 0.1


def test_a_tail_is_clipped_by_the_ratio_of_all_of_it() -> None:
    # One candidate; the rest has become rarer: 0.4 of 0.7 before, and a falling token is clipped.
    def policy(first: float) -> Tensor:
        return torch.tensor([first, (1 - first) / 2, (1 - first) / 2]).log()

    logits = policy(0.6).requires_grad_()
    place = Place(logits, policy(0.3), policy(0.5))
    clipped, free = MiniRL(weight_cap=OFF), MiniRL(weight_cap=OFF, clip_low=OFF, clip_high=OFF)
    # A < 0: r of the candidate is 2, not clipped; r of the tail is 0.57, clipped. Its share of the
    # mean, 0.5 (0.4 / 0.5) grad log 0.4 A, is missing, and no more.
    share = -0.4 * torch.autograd.grad((1 - place.logprobs[0].exp()).log(), logits)[0]
    with_it, without = (place.gradient(centered(inner, 1), 0, -1.0, 1) for inner in (free, clipped))
    torch.testing.assert_close(without - with_it, share, rtol=1e-9, atol=1e-9)


def test_it_is_a_correction_that_holds_others() -> None:
    place = Place.of(1)
    within = ScoreCentering(candidates=4, weights=Truncation()).apply_to(GRPO())
    around = centered(Truncation().apply_to(GRPO()), 4)
    torch.testing.assert_close(
        place.gradient(within, 2, -1.0, 4), place.gradient(around, 2, -1.0, 4), rtol=0, atol=0
    )
    named = ScoreCentering.model_validate({"weights": {"name": "masking", "low": 0.2}})
    assert named.weights == Masking(low=0.2)
    assert ScoreCentering().weights == NoCorrection()


def test_flags_are_those_of_the_objective_and_candidates() -> None:
    objective = centered(MiniRL(), 20)
    assert objective.reads_candidates == 20
    assert objective.corrects_mismatch
    assert objective.proportional_to_advantage
    assert centered(RSPO()).reads_router
    held = ReferenceKL(coefficient=0.1).apply_to(objective)
    assert held.reads_candidates == 20
    assert Truncation().apply_to(GRPO()).reads_candidates == 0


def test_without_advantage_nothing_is_learned() -> None:
    place = Place.of(0)
    for inner in (Reinforce(), MiniRL(), GRPO()):
        assert not place.gradient(centered(inner, 3), 1, 0.0, 3).any()


@pytest.mark.parametrize("now", [-200.0, -1.0])
@pytest.mark.parametrize("engine", [-200.0, -1.0])
@every_objective
def test_extreme_policies_give_finite_gradients(
    inner: Objective, now: float, engine: float
) -> None:
    logits = torch.tensor([0.0, now, -3.0]).requires_grad_()
    place = Place(logits, torch.tensor([0.0, -1.0, -3.0]).log_softmax(0), torch.zeros(3))
    place.engine = torch.tensor([0.0, engine, -3.0]).log_softmax(0)
    for candidates in (1, 2, 3):
        for token in range(3):
            found = place.gradient(centered(inner, candidates), token, -1.0, candidates)
            assert found.isfinite().all()


def test_masks_are_those_of_the_objective() -> None:
    terms = Place.of(0).terms(0, 1.0, 3)
    found, own = (by.masks(terms) for by in (centered(MiniRL(), 3), MiniRL()))
    assert torch.equal(found.clipped_high, own.clipped_high)
    assert torch.equal(found.truncated, own.truncated)


@pytest.mark.parametrize(
    ("objective", "weights", "what"),
    [
        (GSPO(), NoCorrection(), "'gspo' with the weights 'none' reads whole responses"),
        (
            GRPO(),
            Masking(level=MismatchLevel.SEQUENCE_PRODUCT),
            "'grpo' with the weights 'masking' reads whole responses",
        ),
        (
            ReferenceKL(coefficient=0.1).apply_to(GRPO()),
            NoCorrection(),
            "'penalized' with the weights 'none' reads the reference policy",
        ),
        (centered(GRPO(), 3), NoCorrection(), "'centered' with the weights 'none' reads candid"),
        (MiniRL(), Truncation(), "the mismatch would be corrected twice"),
    ],
)
def test_what_has_no_value_for_other_tokens_is_refused(
    objective: Objective, weights: Truncation, what: str
) -> None:
    with pytest.raises(UserError, match=what):
        ScoreCentering(weights=weights).apply_to(objective)


def test_terms_without_candidates_are_refused() -> None:
    with pytest.raises(UserError, match=r"needs the engine's most probable tokens .* Provide them"):
        centered(Reinforce(), 3)(Place.of(0).terms(0, 1.0, None))


def test_it_travels_between_processes() -> None:
    objective = ScoreCentering(candidates=3, weights=Truncation()).apply_to(GRPO())
    assert pickle.loads(pickle.dumps(objective)) == objective
