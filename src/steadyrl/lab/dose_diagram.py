"""Diagrams of two dials: the borders of one cause of instability at several doses of another.

Each column of a diagram is a dial of its own, with controls of its own: the study of doses stays
what it is. Columns, remedies and seeds were stated before the runs. A column whose second dose is
that of the world has the runs of the study of the first dial.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from steadyrl.lab.dials import routing_noise, staleness, step_size, weight_noise
from steadyrl.lab.dose import Dial, DoseStudy, dose_study
from steadyrl.policies.numerics import Numerics

MakeDial = Callable[[Numerics], Dial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """The second cause of a diagram."""

    axis: str
    """Label of its doses."""

    doses: tuple[float, ...]
    """Its dose in each column, rising."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagramStudy(DoseStudy):
    """Borders of one dial, a column of the diagram for each dose of a second one."""

    diagram: Diagram


def diagram_study(
    experiment: str,
    first: MakeDial,
    second: MakeDial,
    doses: tuple[float, ...],
    numerics: Numerics,
) -> DiagramStudy:
    """The borders of `first`, under none and the last of its remedies, at `doses` of `second`."""
    by = second(numerics)

    def column(dose: float) -> MakeDial:
        def make(numerics: Numerics) -> Dial:
            dial = first(numerics)
            none, *_, last = dial.remedies
            return replace(
                dial,
                name=f"{dial.name} at {by.name} {dose:g}",
                remedies={name: dial.remedies[name] for name in (none, last)},
                control=by.turn(dial.control, dose),
            )

        return make

    study = dose_study(experiment, tuple(map(column, doses)), numerics)
    parts = {name: getattr(study, name) for name in study.__dataclass_fields__}
    title = f"Borders of {first(numerics).name} by {by.name}, rollouts in {numerics}"
    diagram = Diagram(axis=by.axis, doses=doses)
    return DiagramStudy(**parts | {"title": title}, diagram=diagram)


def routing_noise_by_learning_rate(numerics: Numerics) -> DiagramStudy:
    """Routing noise, without replay and with R3, at half of the world's learning rate and more.

    Twice that rate is where half of the runs without noise lose `dose.LOSS`.
    """
    return diagram_study(
        "diagram-routing-noise", routing_noise, step_size, (0.5, 1.0, 1.41), numerics
    )


def weight_noise_by_staleness(numerics: Numerics) -> DiagramStudy:
    """Weight noise, without importance weights and with them, on-policy and at N = 4 and 16."""
    return diagram_study(
        "diagram-weight-noise", weight_noise, staleness, (1.0, 4.0, 16.0), numerics
    )
