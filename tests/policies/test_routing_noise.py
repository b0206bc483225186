"""Noise on the choice of experts."""

import numpy as np
import pytest
import torch
from scipy import stats

from steadyrl.base.errors import UserError
from steadyrl.engines.engine_model import EngineModel
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import SmallDense, SmallMoE
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.routing import RoutingHook
from steadyrl.policies.routing_noise import RoutingNoise, gaussian_hash
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.policies.weights import perturb_weights
from steadyrl.records.routing import Routing
from tests.closeness import assert_close
from tests.policies.families import FAMILIES, VOCABULARY, family_model

TOKENS = torch.arange(2, 26).remainder(VOCABULARY).reshape(2, 12)


def chosen(family: str, scale: float | None, seed: int = 0) -> torch.Tensor:
    model = family_model(family).eval()
    noise = None if scale is None else RoutingNoise(scale, seed)
    hook = RoutingHook(model, verify=False, noise=noise)
    with torch.no_grad(), hook.watch((2, 12)) as watch:
        model(input_ids=TOKENS, use_cache=False)
    return watch.experts()


def test_the_hash_is_standard_gaussian_in_every_column() -> None:
    rows = torch.rand(20_000, 6, generator=torch.Generator().manual_seed(0))
    noise = gaussian_hash(rows, seed=1).double().numpy()

    for column in noise.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    correlation = np.corrcoef(noise, rowvar=False)
    assert np.abs(correlation - np.eye(6)).max() < 5 / np.sqrt(len(noise))


def test_the_hash_depends_on_seed_row_and_column_and_on_nothing_else() -> None:
    rows = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    nudged = rows.clone()
    nudged[7, 2] = torch.nextafter(rows[7, 2], torch.tensor(2.0))
    noise = gaussian_hash(rows, seed=1)

    assert torch.equal(gaussian_hash(rows[[3, 9]], seed=1), noise[[3, 9]])
    assert not bool((gaussian_hash(rows, seed=2) == noise).any())
    differs = gaussian_hash(nudged, seed=1) != noise
    assert bool(differs[7].all())
    assert not bool(differs[[n for n in range(50) if n != 7]].any())


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_moves_the_choice_of_every_family_the_more_the_larger_it_is(family: str) -> None:
    live = chosen(family, None).sort(dim=-1).values
    off = [
        float((chosen(family, scale).sort(dim=-1).values != live).float().mean())
        for scale in (0.0, 0.3, 10.0)
    ]

    assert off[0] == 0.0
    assert off[2] >= off[1]
    assert off[2] > 0.2


def test_noise_is_repeatable_and_another_with_another_seed() -> None:
    family = next(iter(FAMILIES))

    assert torch.equal(chosen(family, 1.0, seed=5), chosen(family, 1.0, seed=5))
    assert not torch.equal(chosen(family, 1.0, seed=5), chosen(family, 1.0, seed=6))


def test_replay_of_noisy_routes_gives_the_noisy_models_logits() -> None:
    """The gate weights stay live, so a trainer that replays the choice computes the same."""
    family = next(iter(FAMILIES))
    noisy, clean = family_model(family).eval(), family_model(family).eval()
    noisy_hook = RoutingHook(noisy, verify=False, noise=RoutingNoise(1.0, seed=0))
    policy = Policy(clean, character_tokenizer())
    with torch.no_grad(), noisy_hook.watch((2, 12)) as watch:
        logits = noisy(input_ids=TOKENS, use_cache=False).logits
    expected = logits.log_softmax(-1)[:, :-1].gather(-1, TOKENS[:, 1:, None]).squeeze(-1)
    mask = torch.ones_like(TOKENS, dtype=torch.bool)
    mask[:, 0] = False
    live = policy.score(TOKENS, torch.ones_like(mask), mask)
    known = torch.ones(TOKENS.shape, dtype=torch.bool)
    routes = Routing.of(experts=watch.experts().to(torch.uint8), known=known, tokens=TOKENS)
    replayed = policy.score(TOKENS, torch.ones_like(mask), mask, replay=routes)

    assert_close(replayed.logprobs[:, 1:], expected)
    assert float((live.logprobs.detach()[:, 1:] - expected).abs().max()) > 1e-3


def engine_model(model: SmallMoE | SmallDense, **dials: float) -> EngineModel:
    tokenizer = load_tokenizer(model)
    policy = Policy(load_model(model, tokenizer=tokenizer, seed=0), tokenizer)
    return EngineModel(
        policy,
        numerics=Numerics.FLOAT32,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=policy.hook is not None,
        **dials,
    )


def test_routing_noise_without_routers_is_refused() -> None:
    with pytest.raises(UserError, match=r"routing_noise is 0\.5, but no router"):
        engine_model(SmallDense(), routing_noise=0.5)


def test_weight_noise_is_relative_and_fresh_at_each_load() -> None:
    clean = engine_model(SmallMoE()).model.state_dict()
    noisy = engine_model(SmallMoE(), weight_noise=0.1)
    first = {name: weight.clone() for name, weight in noisy.model.state_dict().items()}
    noisy.load_weights(clean, version=1)
    second = noisy.model.state_dict()

    for name, weight in clean.items():
        if weight.dim() < 2:
            assert torch.equal(first[name], weight)
            continue
        relative = ((first[name] - weight) / weight)[weight != 0].double()
        assert abs(float(relative.std()) / 0.1 - 1) < 5 / len(relative) ** 0.5
        assert abs(float(relative.mean())) < 5 * 0.1 / len(relative) ** 0.5
        assert not torch.equal(first[name], second[name])
    noisy.load_weights(clean, version=1)
    again = noisy.model.state_dict()
    assert all(torch.equal(again[name], second[name]) for name in again)


def test_no_noise_leaves_weights_alone() -> None:
    model = load_model(SmallMoE(), tokenizer=load_tokenizer(SmallMoE()), seed=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    perturb_weights(model, 0.0, seed=3)

    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
