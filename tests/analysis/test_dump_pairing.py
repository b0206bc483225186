"""Rows of two dumps are paired by their responses, and other rollouts are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dump_world import Samples
from dump_writers import WRITERS
from tests.analysis.dump_samples import drawn

from steadyrl.analysis.dumps import Dump, pair, read_content, read_dump
from steadyrl.base.errors import UserError


def written(samples: Samples, folder: Path, side: int) -> Dump:
    """One side of our own layout: 0 is the engine's, 1 the trainer's."""
    path = WRITERS["steadyrl"](samples, folder)[side]
    return read_dump(read_content(path), path.name)


def test_rows_in_another_order_are_paired_by_their_tokens(tmp_path: Path) -> None:
    samples = drawn(0, prompts=4, group=4)
    engine = written(samples, tmp_path, 0)
    trainer = written(samples[::-1], tmp_path, 1)
    pairing = pair(engine, trainer)
    assert "paired by their tokens" in pairing.notes[0]
    for row, sample in zip(pairing.rows, samples[::-1], strict=True):
        assert row.tokens.tolist() == [*sample.prompt, *sample.response]
        assert row.rollout_logprobs[row.mask] == pytest.approx(sample.rollout_logprobs)


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    samples = drawn(0, prompts=2, group=2)
    pairing = pair(written(samples, tmp_path, 1), written(samples, tmp_path, 0))
    assert pairing.notes == ("engine.jsonl is the engine's dump and trainer.jsonl the trainer's.",)


def test_rows_that_one_side_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    samples = drawn(0, prompts=4, group=4)
    pairing = pair(written(samples[:10], tmp_path, 0), written(samples, tmp_path, 1))
    assert len(pairing.rows) == 10
    assert pairing.notes[-1] == "6 of 16 rows of trainer.jsonl are not in the other."


def test_a_response_that_one_side_cuts_short_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    samples = drawn(0, prompts=4, group=4)
    cut = [
        replace(
            sample,
            response=sample.response[:-1],
            rollout_logprobs=sample.rollout_logprobs[:-1],
            mask=sample.mask[:-1],
        )
        for sample in samples
    ]
    pairing = pair(written(cut, tmp_path, 0), written(samples, tmp_path, 1))
    assert pairing.notes[0].startswith("16 responses have other lengths")
    counted = [int(row.mask.sum()) for row in pairing.rows]
    assert counted == [len(s.response) - 1 for s in samples]


def test_prompts_of_other_lengths_are_aligned_at_the_response(tmp_path: Path) -> None:
    samples = [
        replace(sample, prompt=(5, *sample.prompt), rollout_experts=None)
        for sample in drawn(0, prompts=4, group=4)
    ]
    pairing = pair(written(samples, tmp_path, 0), written(samples, tmp_path, 1))
    for row, prompt, sample in zip(pairing.rows, pairing.engine_prompts, samples, strict=True):
        assert prompt.tolist() == list(sample.prompt)
        assert row.prompt.tolist() == list(sample.trainer_prompt)
        assert row.rollout_logprobs[row.mask] == pytest.approx(sample.rollout_logprobs)
        assert np.isnan(row.rollout_logprobs[: row.response_start]).all()


def test_other_rollouts_are_refused(tmp_path: Path) -> None:
    engine = written(drawn(0, prompts=4, group=4), tmp_path, 0)
    trainer = written(drawn(1, prompts=4, group=4), tmp_path, 1)
    with pytest.raises(UserError, match=r"tokenized differently: \d+ of 16 responses"):
        pair(engine, trainer)


def test_two_dumps_of_one_side_are_refused(tmp_path: Path) -> None:
    engine = written(drawn(0, prompts=2, group=2), tmp_path, 0)
    with pytest.raises(UserError, match="no log-probabilities of the trainer"):
        pair(engine, engine)


def test_rows_without_log_probabilities_are_left_out_and_counted(tmp_path: Path) -> None:
    samples = drawn(0, prompts=4, group=4)
    paths = WRITERS["slime"](samples, tmp_path)
    content = torch.load(paths[0], weights_only=False)
    for number in (2, 5):  # aborted
        content["samples"][number]["rollout_log_probs"] = None
    dumps = [read_dump(content, "rollout.pt"), read_dump(read_content(paths[1]), "train.pt")]
    pairing = pair(*dumps)
    assert len(pairing.rows) == len(pairing.engine_prompts) == 14
    assert pairing.notes == ("2 of 16 rows lack the log-probabilities of a side.",)


def test_rows_that_are_there_twice_are_paired_twice(tmp_path: Path) -> None:
    samples = drawn(0, prompts=2, group=4)
    order = [3, 0, 0, 5, 1, 7, 2, 6, 4, 3]
    shuffled = [samples[number] for number in order]
    pairing = pair(written(samples + samples, tmp_path, 0), written(shuffled, tmp_path, 1))
    assert len(pairing.rows) == len(order)
    for row, sample in zip(pairing.rows, shuffled, strict=True):
        assert row.rollout_logprobs[row.mask] == pytest.approx(sample.rollout_logprobs)
