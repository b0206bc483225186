import pytest

from steadyrl.environments.grid_moves import Move, distance


@pytest.mark.parametrize(
    ("move", "cell", "arrow", "key"),
    [
        (Move.LEFT, (2, 2), "<", "l"),
        (Move.DOWN, (3, 3), "v", "d"),
        (Move.RIGHT, (2, 4), ">", "r"),
        (Move.UP, (1, 3), "^", "u"),
    ],
)
def test_moves_go_where_their_arrows_point(move: Move, cell: tuple[int, int], arrow: str, key: str):
    assert move.step((2, 3)) == cell
    assert (move.arrow, move.key, move.word[0]) == (arrow, key, key)


def test_distance_counts_the_moves_of_an_empty_board():
    # Three rows down and two columns to the left.
    assert distance((1, 4), (4, 2)) == distance((4, 2), (1, 4)) == 5
