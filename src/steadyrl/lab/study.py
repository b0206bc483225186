"""Studies: named runs, seeds, and claims about them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.lab.claims import Claim
from steadyrl.lab.measures import COMPARED
from steadyrl.lab.records import BIN
from steadyrl.report.plots import PANELS
from steadyrl.run.config import RunConfig, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One way to train.

    Example:
        Condition(name="MiniRL + R3", config=world(routing_replay="r3"))
    """

    name: str
    """Name in the figure's legend."""

    config: RunConfig
    """Its seed is that of each run in turn."""

    def run(self, seed: int) -> RunConfig:
        """The configuration of the run with `seed`."""
        return changed(self.config, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A figure: what is run, and what is claimed about it before it is run."""

    experiment: str
    """The experiment, such as `figure1`. Studies of one experiment make the same claims."""

    level: str
    """The engine's numerics, and other differences between studies of one experiment."""

    title: str
    conditions: tuple[Condition, ...]
    claims: tuple[Claim, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    measures: tuple[str, ...] = (
        "best_score",
        "final_score",
        "first_score",
        "best_reward",
        "final_reward",
        "kept",
        "final_entropy",
        "log10_mismatch",
        "log10_gradient_norm",
    )
    """Measures of every run."""

    panels: tuple[str, str, str, str] = PANELS
    """The metrics that the figure shows."""

    def __post_init__(self) -> None:
        spoken_of = [c for claim in self.claims for c in (*claim.premise, *claim.comparisons)]
        names = [condition.name for condition in self.conditions]
        unknown = {name for c in spoken_of for name in c.conditions}.difference(names)
        if unknown:
            raise UserError(
                f"{self.name} claims something about {unknown}, which it has not. Its conditions "
                f"are {', '.join(names)}."
            )
        unmeasured = {c.measure for c in spoken_of} - set(self.measures) - set(COMPARED)
        if unmeasured:
            raise UserError(
                f"{self.name} claims something about {unmeasured}, unmeasured. Add it to measures."
            )
        for condition in self.conditions:
            taken = condition.config.algorithm.gradient_steps
            if BIN % taken and taken % BIN:
                raise UserError(
                    f"{condition.name!r} of {self.name} takes {taken} "
                    f"gradient steps a rollout. Courses are kept in bins of {BIN}: take 1, 2, 4, "
                    f"{BIN} or a multiple of {BIN}."
                )

    @property
    def name(self) -> str:
        """Name of the results folder."""
        return f"{self.experiment}-{self.level}"

    def with_seeds(self, count: int) -> "Study":
        """The study on its first `count` seeds, of which there are as many as one likes."""
        first = self.seeds[0]
        return replace(self, seeds=tuple(range(first, first + count)))

    def varied(
        self, change: Callable[[RunConfig], RunConfig], *, level: str, title: str
    ) -> "Study":
        """The study with every run changed, and what says so behind its level and its title."""
        conditions = tuple(
            replace(condition, config=change(condition.config)) for condition in self.conditions
        )
        return replace(
            self,
            level=f"{self.level}-{level}",
            title=f"{self.title}, {title}",
            conditions=conditions,
        )

    def quick(self) -> "Study":
        """A small form, to see it work: two seeds, a quarter of the gradient steps."""
        return self.with_seeds(2).varied(_quick, level="quick", title="quick form")


def changed(config: RunConfig, **changes: Any) -> RunConfig:
    """`config` with other values for some of its fields, validated anew."""
    return parse(config.model_dump() | changes, "study")


def _quick(config: RunConfig) -> RunConfig:
    steps = max(1, config.steps // 4)
    return changed(config, steps=steps, evaluate_every=max(1, steps // 4))
