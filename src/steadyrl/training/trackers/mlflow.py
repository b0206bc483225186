"""MLflow: a tracking server, or a store on this machine."""

import time
from typing import Any, ClassVar, Literal

from steadyrl.base.extras import require_extra
from steadyrl.training.stage import Stage
from steadyrl.training.trackers.protocol import Row, TrackedRun, Tracker, TrackerSettings, flat

SERVICE = "mlflow"
ROW = "row"
"""Metric that numbers the rows of the run. Its latest value says which are logged."""

LONGEST_VALUE, MOST_PARAMS = 5000, 100
"""Characters of a parameter or a tag, and parameters of a request: servers take no more."""


class MlflowSettings(TrackerSettings):
    """MLflow. Needs `pip install 'steadyrl[mlflow]'`; local stores need the package mlflow."""

    remedy: ClassVar[str] = (
        "Start the server that tracking_uri or MLFLOW_TRACKING_URI names, or name another."
    )

    name: Literal["mlflow"] = "mlflow"

    tracking_uri: str | None = None
    """Server or store, such as `http://host:5000`; None: as MLFLOW_TRACKING_URI says."""

    experiment: str = "steadyrl"
    """Experiment that the run belongs to. It is made if there is none."""

    run_name: str | None = None
    """Name of the run; None: that of the run folder."""

    def require(self) -> None:
        """Returns if mlflow is installed."""
        require_extra("mlflow", "mlflow")

    def open(self, run: TrackedRun) -> Tracker:
        """The MLflow run of `run`, which a resume continues."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.tracking_uri)
        own = run.identity(SERVICE, lambda: self._create(client, run))
        client.update_run(own, status="RUNNING")
        return MlflowTracker(client, own, run)

    def _create(self, client: Any, run: TrackedRun) -> str:
        from mlflow.entities import Param

        found = client.get_experiment_by_name(self.experiment)
        experiment = client.create_experiment(self.experiment) if found is None else None
        created = client.create_run(
            experiment or found.experiment_id, run_name=self.run_name or run.name
        )
        params = [Param(name, str(value)[:LONGEST_VALUE]) for name, value in _leaves(run.config)]
        for first in range(0, len(params), MOST_PARAMS):
            client.log_batch(created.info.run_id, params=params[first : first + MOST_PARAMS])
        return str(created.info.run_id)


class MlflowTracker:
    """Logs to an MLflow run under `stage/metric`, at the step of the stage.

    The metric `row` is stored together with the others, so that no row is logged twice.
    """

    def __init__(self, client: Any, own: str, run: TrackedRun) -> None:
        self._client = client
        self._id = own
        self._run = run
        self._logged = int(client.get_run(own).data.metrics.get(ROW, -1))
        self._notes = [note["note"] for note in run.notes]
        for row in run.recorded():
            self.log(*row)

    @property
    def address(self) -> str | None:
        """The server or store, and the run in it."""
        return f"{self._client.tracking_uri} (run {self._id})"

    def log(self, stage: Stage, step: int, metrics: Row) -> None:
        """Logs the row, unless the run has it."""
        from mlflow.entities import Metric

        position = self._run.position(stage.name, step)
        if position <= self._logged:
            return
        now = time.time_ns() // 1_000_000
        values = [
            Metric(name, value, now, step) for name, value in flat(metrics, stage.name).items()
        ]
        self._client.log_batch(self._id, [*values, Metric(ROW, float(position), now, position)])
        self._logged = position

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Adds the note to the description of the run."""
        self._notes.append(f"{stage.name} {step}: {text}")
        description = "\n\n".join(self._notes)[-LONGEST_VALUE:]
        self._client.set_tag(self._id, "mlflow.note.content", description)

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self._id)


def _leaves(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every setting by its path, as `learner.dtype`."""
    if not isinstance(config, dict):
        return [(prefix, config)]
    return [
        leaf
        for name, value in config.items()
        for leaf in _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    ]
