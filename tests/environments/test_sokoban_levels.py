from itertools import permutations
from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_search import shortest_solution
from steadyrl.environments.sokoban_board import read_board
from steadyrl.environments.sokoban_levels import all_levels, draw_level, read_levels


@pytest.mark.parametrize(("size", "count"), [(6, 1136), (7, 4804)])
def test_levels_of_the_papers_kind_are_as_many_as_its_generator_can_make(size: int, count: int):
    levels = list(all_levels(size=size, max_path=8))
    assert len(set(levels)) == len(levels) == count


def test_listed_levels_are_those_that_a_search_can_solve():
    # Of all 504 places of goal, box and player on the 3 x 3 inner cells.
    listed = {level.rows for level in all_levels(size=5, max_path=5)}
    inner = [(row, column) for row in range(1, 4) for column in range(1, 4)]
    for goal, box, agent in permutations(inner, 3):
        cells = [list("#####"), *[list("#---#") for _ in range(3)], list("#####")]
        for glyph, (row, column) in zip(".$@", (goal, box, agent), strict=True):
            cells[row][column] = glyph
        rows = tuple("".join(line) for line in cells)
        solvable = shortest_solution(read_board(rows), limit=5) is not None
        assert solvable == (rows in listed)


def test_drawn_levels_are_those_of_the_list():
    drawn = {draw_level(Draws(number), size=5, max_path=8) for number in range(1500)}
    assert drawn == set(all_levels(size=5, max_path=8))


def test_levels_with_inner_walls_can_be_solved_in_as_many_moves() -> None:
    levels = [
        draw_level(Draws(number), size=6, max_path=3, inner_walls=0.3) for number in range(300)
    ]
    for level in levels:
        solution = shortest_solution(level, limit=3)
        assert solution is not None
    inner = "".join(row[1:-1] for level in levels for row in level.rows[1:-1])
    assert 0.2 < inner.count("#") / len(inner) < 0.3  # fewer, since levels must be solvable
    assert {row for level in levels for row in (level.rows[0], level.rows[-1])} == {"######"}


def test_walls_leave_every_level_that_is_possible() -> None:
    # Of the 3 x 3 cells within the border walls leave a row or a column: 6, in 2 directions each.
    drawn = {
        draw_level(Draws(number), size=5, max_path=1, inner_walls=0.5) for number in range(3000)
    }
    corridors = {level for level in drawn if sum(row.count("#") for row in level.rows) == 22}
    assert len(corridors) == 12


BOXOBAN = """\
; 0
##########
#   .    #
#  $@  ###
##########

; 1
#####
#@$.#
#####
"""


def test_a_file_of_the_usual_format_is_read(tmp_path: Path):
    path = tmp_path / "levels.txt"
    path.write_text(BOXOBAN)
    wide, narrow = read_levels(path)
    assert wide.rows == ("##########", "#---.----#", "#--$@--###", "##########")
    assert narrow.rows == ("#####", "#@$.#", "#####")


def test_a_mark_of_the_byte_order_is_no_part_of_a_level(tmp_path: Path):
    path = tmp_path / "levels.txt"
    path.write_text("#####\n#@$.#\n#####\n", encoding="utf-8-sig")
    (level,) = read_levels(path)
    assert level.rows == ("#####", "#@$.#", "#####")


def test_titles_separate_levels_without_empty_lines(tmp_path: Path):
    path = tmp_path / "levels.txt"
    path.write_text(BOXOBAN.replace("\n\n", "\n"))
    assert len(read_levels(path)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOXOBAN.replace("#@$.#", "#@$ #"), r"The level at line 8 of .* has 1 boxes and 0 goals"),
        ("Level one\n#@$.#\n", r"The level at line 1 of .* has 'L' in it"),
        ("; nothing\n\n", r"There are no levels in .*Give a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "levels.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_levels(path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"Cannot read the levels in .*Give the path"):
        read_levels(tmp_path / "none.txt")
