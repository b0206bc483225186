"""Where learning in marble-v1 begins, with the package itself."""

import pytest

pytest.importorskip("marble_v1")
pytestmark = [pytest.mark.adapters, pytest.mark.filterwarnings("default")]

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from benchmarks.marble_start import (  # noqa: E402
    OtherLevelsSettings,
    answer,
    layout_of,
    piece_of,
    save_model,
)
from benchmarks.verifiers_marble import Options, environment_of, solves  # noqa: E402
from marble_v1.taskset import parse_layout  # noqa: E402

from steadyrl.environments import Split  # noqa: E402
from steadyrl.policies.loading import load_tokenizer  # noqa: E402
from steadyrl.policies.model_settings import Pretrained  # noqa: E402


def test_a_level_is_answered_by_the_solution_of_another_with_its_piece(tmp_path: Path) -> None:
    environment = environment_of(Options()).make()
    levels = [environment.task(Split.TRAIN, number) for number in range(24)]
    solutions = {answer(layout_of(level)) for level in levels}
    assert all(solves(level, layout_of(level)) for level in levels)

    teacher = OtherLevelsSettings(levels=24).make(environment)
    assert teacher.task(Split.TRAIN, 25).id == levels[1].id
    level = next(x for x in levels if sum(piece_of(x) == piece_of(y) for y in levels) > 2)
    generator = np.random.default_rng(0)
    given = {teacher.demonstrate(level, generator) for _ in range(20)}
    assert len(given) > 1
    assert given <= solutions - {answer(layout_of(level))}
    for text in given:
        (placed,) = parse_layout(text) or ()
        assert placed.kind.value == piece_of(level)

    save_model(tmp_path, levels, 0)
    tokenizer = load_tokenizer(Pretrained(path=str(tmp_path)))
    prompt = environment.task(Split.TEST, 0).prompt[0].content
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer.decode(ids) == prompt
    assert len(ids) < 200
