"""Plans of runs on clusters that are not there: memory, step time, bottleneck; and simulations."""

from typing import TYPE_CHECKING

from steadyrl.base.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from steadyrl.planning.hardware import ACCELERATORS, CONSTANTS, Accelerator, Cluster
    from steadyrl.planning.plan import RunPlan, StepTime, plan_run
    from steadyrl.planning.settings import PlanSettings
    from steadyrl.planning.simulated_cluster import (
        Disturbances,
        MeasuredDecoding,
        SimulatedCluster,
        simulated_cluster,
    )
    from steadyrl.planning.simulation import SimulatedRun, simulate

__all__ = [
    "ACCELERATORS",
    "CONSTANTS",
    "Accelerator",
    "Cluster",
    "Disturbances",
    "MeasuredDecoding",
    "PlanSettings",
    "RunPlan",
    "SimulatedCluster",
    "SimulatedRun",
    "StepTime",
    "plan_run",
    "simulate",
    "simulated_cluster",
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
        "Disturbances": "simulated_cluster",
        "MeasuredDecoding": "simulated_cluster",
        "SimulatedCluster": "simulated_cluster",
        "SimulatedRun": "simulation",
        "simulate": "simulation",
        "simulated_cluster": "simulated_cluster",
    },
)
