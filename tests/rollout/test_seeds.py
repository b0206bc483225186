"""Seeds by place."""

from steadyrl.rollout.seeds import derive_seed


def test_equal_places_have_equal_seeds_and_others_do_not() -> None:
    places = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (300, 4)]
    seeds = [derive_seed(root, *place) for root in (0, 1) for place in places]
    assert seeds == [derive_seed(root, *place) for root in (0, 1) for place in places]
    assert len(set(seeds)) == len(seeds)


def test_seeds_have_63_bits() -> None:
    seeds = [derive_seed(5, number) for number in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Each of the 63 bits is set in about half of them; 200 draws stray by 5 * sqrt(50) < 40.
    counts = [sum(seed >> bit & 1 for seed in seeds) for bit in range(63)]
    assert all(60 < count < 140 for count in counts)
