"""Figures 2 to 4 of arXiv:2512.01374: several gradient steps for each rollout.

The paper leaves two cells empty: clipping without replay, and R3 without clipping. They are filled.
"""

from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.studies.claims import Claim, greater
from steadyrl.studies.study import Condition, Study
from steadyrl.studies.world import MINIRL, NO_CLIPPING, world

REPLAYS = {"no replay": RoutingReplay.NONE, "R2": RoutingReplay.R2, "R3": RoutingReplay.R3}


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
        Claim(
            text=f"With {replay}, dropping clipping collapses the run and lowers its peak",
            source=source if replay == "R2" else "the paper's empty cell",
            comparisons=(
                greater("kept", _name(replay, True), _name(replay, False)),
                greater("best_score", _name(replay, True), _name(replay, False)),
            ),
        )
        for replay in ("R2", "R3")
    ]
    replay = [
        Claim(
            text=f"Without clipping, dropping {replay} collapses the run and lowers its peak",
            source=source if replay == "R2" else "the paper's empty cell",
            comparisons=(
                greater("kept", _name(replay, False), _name("no replay", False)),
                greater("best_score", _name(replay, False), _name("no replay", False)),
            ),
        )
        for replay in ("R2", "R3")
    ]
    empty = [
        Claim(
            text=f"With clipping, dropping {replay} collapses the run and lowers its peak",
            source="the paper's empty cell",
            comparisons=(
                greater("kept", _name(replay, True), _name("no replay", True)),
                greater("best_score", _name(replay, True), _name("no replay", True)),
            ),
        )
        for replay in ("R2", "R3")
    ]
    return [*clipping, *replay, *empty]


def _choice(source: str, mini_batches: int, better: str) -> list[Claim]:
    """Section 3.2, claim 2: R2 is the better replay at N = 2, R3 from N = 4 on."""
    worse = "R3" if better == "R2" else "R2"
    claims = [
        Claim(
            text=f"At N = {mini_batches}, {better} peaks higher than {worse}",
            source=source,
            comparisons=(greater("best_score", _name(better, True), _name(worse, True)),),
        )
    ]
    if better == "R3":
        claims.append(
            Claim(
                text=f"At N = {mini_batches}, R2 cannot keep training stable, and R3 can",
                source=source,
                comparisons=(
                    greater("kept", _name("R3", True), 0.9),
                    greater("kept", _name("R3", True), _name("R2", True)),
                ),
            )
        )
    return claims
