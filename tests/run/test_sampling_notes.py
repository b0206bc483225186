"""A run says where it learns from sampling that leaves tokens out."""

import pytest
import torch

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.sampler import sample
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.run.assembly import Assembly
from steadyrl.run.sampling_notes import sampling_notes
from tests.run.tiny import tiny_experiential_run, tiny_run


@pytest.mark.parametrize(
    ("sampling", "cut"),
    [
        (Sampling(top_p=0.9), "sampling is cut by top_p 0.9:"),
        (Sampling(top_k=20), "sampling is cut by top_k 20:"),
        (Sampling(top_p=0.95, top_k=3), "sampling is cut by top_p 0.95 and top_k 3:"),
    ],
)
def test_sampling_that_leaves_tokens_out_is_noted(sampling: Sampling, cut: str) -> None:
    (note,) = sampling_notes(tiny_run(sampling=sampling))
    assert note.startswith(cut)


def test_reflections_that_are_learned_from_are_among_them() -> None:
    config = tiny_experiential_run()
    assert isinstance(config.algorithm, ExperientialSettings)
    values = config.algorithm.model_dump()
    values["reflection"]["sampling"]["top_p"] = 0.5
    (note,) = sampling_notes(tiny_experiential_run(algorithm=values))
    assert note.startswith("algorithm.reflection.sampling is cut by top_p 0.5:")


def test_sampling_that_is_not_learned_from_is_not_noted() -> None:
    evaluation = EvaluationSettings(tasks=4, samples=2, top_p=0.5)
    assert sampling_notes(tiny_run(evaluation=evaluation)) == []
    assert sampling_notes(tiny_run(steps=0, sampling=Sampling(top_p=0.5))) == []
    assert sampling_notes(tiny_experiential_run()) == []


def test_the_note_is_among_those_of_the_run() -> None:
    config = tiny_run(
        sampling=Sampling(top_p=0.9, max_new_tokens=4),
        algorithm=PolicyGradientSettings(prompts=2, group_size=2, mini_batches=2),
    )
    assert sampling_notes(config)[0] in Assembly.of(config).notes


def test_the_ratio_to_full_softmax_is_the_probability_of_what_is_kept() -> None:
    # p = 0.5, 0.3, 0.2: top_k 2 keeps 0.8, so each token's pi / mu is 0.8, as the note says.
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    token, logprob = sample(logits, torch.tensor([0.7], dtype=torch.float64), Sampling(top_k=2))
    ratio = (logits[0, token] - logprob).exp()
    torch.testing.assert_close(ratio, torch.tensor([0.8]))
