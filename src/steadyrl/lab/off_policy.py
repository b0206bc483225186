"""Figures 2 to 4 of arXiv:2512.01374: several gradient steps for each rollout.

The paper leaves two cells empty: clipping without replay, and R3 without clipping. They are filled.
"""

from steadyrl.lab.claims import Claim, collapses, greater, is_stable, is_unstable
from steadyrl.lab.study import Condition, Study
from steadyrl.lab.world import MINIRL, NO_CLIPPING, world
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay

REPLAYS = {"no replay": RoutingReplay.NONE, "R2": RoutingReplay.R2, "R3": RoutingReplay.R3}

EMPTY_CELL = "our own: the paper has no such run"
"""The source of claims about clipping without replay, and about R3 without clipping."""


def figure2(numerics: Numerics) -> Study:
    """Two gradient steps for each rollout."""
    return _figure("figure2", 2, numerics, better="R2")


def figure3(numerics: Numerics) -> Study:
    """Four gradient steps for each rollout."""
    return _figure("figure3", 4, numerics, better="R3")


def figure4(numerics: Numerics) -> Study:
    """Eight gradient steps for each rollout."""
    return _figure("figure4", 8, numerics, better="R3")


def off_policy_conditions(numerics: Numerics, mini_batches: int) -> tuple[Condition, ...]:
    """{clipping, no clipping} x {no replay, R2, R3}."""
    return tuple(
        Condition(
            name=_name(replay, clipped),
            config=world(
                numerics,
                MINIRL if clipped else NO_CLIPPING,
                mini_batches=mini_batches,
                routing_replay=mode,
            ),
        )
        for clipped in (True, False)
        for replay, mode in REPLAYS.items()
    )


def _name(replay: str, clipped: bool) -> str:
    return f"{replay}, {'clipping' if clipped else 'no clipping'}"


def _figure(name: str, mini_batches: int, numerics: Numerics, *, better: str) -> Study:
    paper = "arXiv:2512.01374"
    source = f"{paper}, {name[:-1]} {name[-1]}"
    # The paper says of figures 2 and 3 that both are needed, and of figure 4 nothing.
    necessity = f"{paper}, of figures 2 and 3" if mini_batches == 8 else source
    return Study(
        experiment=name,
        level=numerics,
        title=f"Off-policy, N = {mini_batches}, rollouts in {numerics}",
        conditions=off_policy_conditions(numerics, mini_batches),
        claims=(*_necessity(necessity), *_choice(source, mini_batches, better)),
    )


def _necessity(source: str) -> list[Claim]:
    """Section 3.2, claim 1: dropping clipping or replay collapses the run and lowers its peak."""
    clipping = [
        _loss(
            f"With {replay}, dropping clipping",
            of=_name(replay, True),
            without=_name(replay, False),
            source=source if replay == "R2" else EMPTY_CELL,
        )
        for replay in ("R2", "R3")
    ]
    replay = [
        _loss(
            f"Without clipping, dropping {replay}",
            of=_name(replay, False),
            without=_name("no replay", False),
            source=source if replay == "R2" else EMPTY_CELL,
        )
        for replay in ("R2", "R3")
    ]
    replay_beside_clipping = [
        _loss(
            f"With clipping, dropping {replay}",
            of=_name(replay, True),
            without=_name("no replay", True),
            source=EMPTY_CELL,
        )
        for replay in ("R2", "R3")
    ]
    return [*clipping, *replay, *replay_beside_clipping]


def _loss(what: str, *, of: str, without: str, source: str) -> Claim:
    """The condition `without` something collapses, and peaks lower than the one `of` everything."""
    return Claim(
        text=f"{what} collapses the run and lowers its peak",
        source=source,
        premise=(collapses(without),),
        comparisons=(greater("kept", of, without), greater("best_score", of, without)),
    )


def _choice(source: str, mini_batches: int, better: str) -> list[Claim]:
    """Section 3.2, claims 2 and 4: R2 is the better replay at N = 2, R3 from N = 4 on."""
    recipe, worse = _name(better, True), "R3" if better == "R2" else "R2"
    others = [_name(replay, clipped) for clipped in (True, False) for replay in REPLAYS]
    others.remove(recipe)
    claims = [
        Claim(
            text=f"At N = {mini_batches}, {better} peaks higher than {worse}",
            source=source,
            comparisons=(greater("best_score", recipe, _name(worse, True)),),
        ),
        Claim(
            text=f"At N = {mini_batches}, {better} with clipping is stable and peaks highest",
            source=f"{source}, as the recommended recipe",
            comparisons=(
                is_stable(recipe),
                *(greater("best_score", recipe, other) for other in others),
            ),
        ),
    ]
    if better == "R3":
        claims.append(
            Claim(
                text=f"At N = {mini_batches}, R2 cannot keep training stable, and R3 can",
                source=source,
                premise=(is_unstable(_name("R2", True)),),
                comparisons=(
                    is_stable(_name("R3", True)),
                    greater("kept", _name("R3", True), _name("R2", True)),
                ),
            )
        )
    return claims
