import torch
from benchmarks.performance.end_token import CHANNEL, stop_hazards
from benchmarks.performance.groups.growth import Size, small_policy
from benchmarks.performance.long_tail_world import END

from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.records.completion import FinishReason
from tests.driving import generate

HAZARD = 1 / 8
SIZE = Size(vocabulary=512)


@torch.no_grad()
def test_the_end_token_is_about_equally_likely_everywhere() -> None:
    model = small_policy(SIZE, torch.device("cpu"), hazard=HAZARD).model
    tokens = torch.randint(2, 512, (4, 64), generator=torch.Generator().manual_seed(1))

    hazards = stop_hazards(model, tokens, END)

    assert abs(hazards.mean().item() / HAZARD - 1) < 0.1
    assert hazards.std().item() / HAZARD < 0.3


@torch.no_grad()
def test_no_layer_changes_the_constant() -> None:
    model = small_policy(SIZE, torch.device("cpu"), hazard=HAZARD).model
    before = model.base_model.embed_tokens.weight[:, CHANNEL]
    streams = model.base_model(
        input_ids=torch.arange(2, 66)[None], use_cache=False, output_hidden_states=True
    ).hidden_states[:-1]  # the last one has passed the final norm

    assert len(streams) == 3
    assert all(torch.equal(stream[0, :, CHANNEL], before[:64]) for stream in streams)


def test_answers_end_by_themselves_at_geometric_lengths() -> None:
    policy = small_policy(SIZE, torch.device("cpu"), hazard=HAZARD)
    engine = LocalEngine(
        EngineModel(
            policy,
            numerics=Numerics.FLOAT32,
            weight_scaling=WeightScaling.CHANNEL,
            record_routing=False,
        ),
        max_running=512,
    )
    request = Request(
        prompt_ids=torch.arange(2, 10), num_completions=512, seed=0, sampling=Sampling()
    )

    (answers,) = generate(engine, [request], Sampling(max_new_tokens=64))

    lengths = torch.tensor([len(answer.token_ids) for answer in answers]).double()
    # Geometric with p = 1/8: mean 8, standard deviation sqrt(7/8) * 8 = 7.5, and 0.33 of a mean of
    # 512; four of these, and a tenth for the hazard's own error.
    assert abs(lengths.mean().item() - 8) < 4 * 0.33 + 0.8
    # Half of them are over after ln 2 / -ln(7/8) = 5.2 tokens.
    assert 4 <= lengths.median().item() <= 7
    stopped = sum(answer.finish_reason is FinishReason.STOP for answer in answers)
    assert stopped >= 510  # (7/8)^64 = 0.0002 of them are cut
