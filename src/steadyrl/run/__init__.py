"""A run: its configuration, its assembly, and its execution in one process or two."""

from typing import TYPE_CHECKING

from steadyrl.base.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from steadyrl.run.assembly import Assembly
    from steadyrl.run.config import ColdStart, RunConfig, from_yaml, to_yaml
    from steadyrl.run.execution import resume_run, start_run

__all__ = [
    "Assembly",
    "ColdStart",
    "RunConfig",
    "from_yaml",
    "resume_run",
    "start_run",
    "to_yaml",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Assembly": "assembly",
        "ColdStart": "config",
        "RunConfig": "config",
        "from_yaml": "config",
        "to_yaml": "config",
        "resume_run": "execution",
        "start_run": "execution",
    },
)
