from hypothesis import given
from hypothesis import strategies as st

from steadyrl.environments.arithmetic_chain import ChainWorld, chain_text, partial_results

worlds = st.builds(
    ChainWorld,
    operands=st.integers(2, 6),
    max_operand=st.integers(1, 12),
    max_result=st.integers(1, 30),
)


def test_the_text_of_a_chain_shows_its_signs():
    assert chain_text((3, 14, -2, 9)) == "3+14-2+9"


def test_partial_results_are_running_sums():
    # 3+14 = 17, 17-2 = 15, 15+9 = 24
    assert partial_results((3, 14, -2, 9)) == (17, 15, 24)


@given(worlds, st.data())
def test_drawn_chains_stay_in_their_world(world: ChainWorld, data: st.DataObject):
    words = data.draw(
        st.lists(st.integers(0, 2**32 - 1), min_size=world.operands, max_size=world.operands)
    )
    chain = world.draw(words)
    assert len(chain) == world.operands
    assert all(1 <= abs(operand) <= world.max_operand for operand in chain)
    assert all(0 <= result <= world.max_result for result in (chain[0], *partial_results(chain)))


def test_enumeration_is_the_brute_force_list():
    world = ChainWorld(operands=3, max_operand=3, max_result=4)
    signed = [-3, -2, -1, 1, 2, 3]
    brute_force = {
        (a, b, c)
        for a in (1, 2, 3)
        for b in signed
        for c in signed
        if 0 <= a + b <= 4 and 0 <= a + b + c <= 4
    }
    chains = list(world.chains())
    assert set(chains) == brute_force
    assert len(chains) == len(brute_force)


def test_every_chain_of_the_world_can_be_drawn():
    world = ChainWorld(operands=3, max_operand=2, max_result=4)
    words = [(a, b, c) for a in range(12) for b in range(12) for c in range(12)]
    assert {world.draw(word) for word in words} == set(world.chains())
