"""Plans of runs on clusters that are not there: memory, step time, bottleneck; and simulations."""

from typing import TYPE_CHECKING

from steadyrl.base.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from steadyrl.planning.hardware import ACCELERATORS, CONSTANTS, Accelerator, Cluster
    from steadyrl.planning.plan import RunPlan, StepTime, plan_run
    from steadyrl.planning.settings import PlanSettings

__all__ = [
    "ACCELERATORS",
    "CONSTANTS",
    "Accelerator",
    "Cluster",
    "PlanSettings",
    "RunPlan",
    "StepTime",
    "plan_run",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ACCELERATORS": "hardware",
        "CONSTANTS": "hardware",
        "Accelerator": "hardware",
        "Cluster": "hardware",
        "PlanSettings": "settings",
        "RunPlan": "plan",
        "StepTime": "plan",
        "plan_run": "plan",
    },
)
