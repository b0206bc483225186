"""Figure 5 of arXiv:2512.01374: prolonged learning levels the differences of cold starts."""

from itertools import combinations

from steadyrl.environments.arithmetic_styles import Style
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacherSettings
from steadyrl.lab.claims import Claim, greater, similar
from steadyrl.lab.study import Condition, Study
from steadyrl.lab.world import GRADIENT_STEPS, world
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay

TEACHERS = {
    "terse, strong": ArithmeticTeacherSettings(style=Style.RESULTS, error_rate=0.15),
    "running, middling": ArithmeticTeacherSettings(style=Style.RUNNING, error_rate=0.25),
    "verbose, weak": ArithmeticTeacherSettings(style=Style.EQUATIONS, error_rate=0.35),
}
"""Three styles and strengths, as the paper's three distillation sources."""


def figure5(numerics: Numerics) -> Study:
    """MiniRL + R2 at N = 2 after three teachers, for twice as many gradient steps."""
    strong, _, weak = TEACHERS
    return Study(
        experiment="figure5",
        level=numerics,
        title=f"Three cold starts, N = 2, R2, rollouts in {numerics}",
        conditions=tuple(
            Condition(
                name=name,
                config=world(
                    numerics,
                    mini_batches=2,
                    routing_replay=RoutingReplay.R2,
                    teacher=teacher,
                    gradient_steps=2 * GRADIENT_STEPS,
                ),
            )
            for name, teacher in TEACHERS.items()
        ),
        claims=(
            Claim(
                text="The cold starts differ before reinforcement",
                source="our own: without it the claim below says nothing",
                comparisons=(greater("first_score", strong, weak),),
            ),
            Claim(
                text="Final performance is comparable for all three",
                source="arXiv:2512.01374, figure 5",
                comparisons=tuple(
                    similar("final_score", first, second)
                    for first, second in combinations(TEACHERS, 2)
                ),
            ),
        ),
    )
