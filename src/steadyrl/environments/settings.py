"""Base classes of environment and teacher settings."""

from abc import abstractmethod

from steadyrl.base.variants import Variant
from steadyrl.environments.protocol import Environment, Teacher


class EnvironmentSettings(Variant):
    """Base class of environment settings.

    Example:
        class ReverseSettings(EnvironmentSettings):
            digits: int = 4

            def make(self) -> Environment:
                return Reverse(self.digits)
    """

    @abstractmethod
    def make(self) -> Environment:
        """The environment.

        Raises:
            UserError: the environment cannot be made; the message gives the reason.
        """

    @property
    def max_turns(self) -> int:
        """Maximum number of model turns per episode."""
        return 1

    @property
    def runs_agents(self) -> bool:
        """Whether episodes are run by agent programs, which call the model themselves."""
        return False

    def require_turns(self, place: str, limit: int, *, attempts: int = 1) -> None:
        """Checks that `limit` turns suffice for a whole episode.

        Args:
            place: Name of the setting that holds the limit.
            attempts: Number of attempts at the task in one episode.

        Raises:
            ValueError: `limit` is too small.
        """
        needed = self.max_turns * attempts
        if limit < needed:
            both = " in both attempts" if attempts > 1 else ""
            raise ValueError(
                f"{place} is {limit}, but an episode of {self.name!r} with its settings may take "
                f"{needed} turns{both}, and would be truncated without reward. Set it to at least "
                f"{needed}."
            )


class TeacherSettings(Variant):
    """Base class of teacher settings. A teacher demonstrates responses for the cold start."""

    @abstractmethod
    def make(self, environment: Environment) -> Teacher:
        """The teacher for the tasks of `environment`.

        Raises:
            UserError: the teacher does not support this environment.
        """

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Checks that the demonstrations leave something to learn in `environment`.

        Raises:
            ValueError: they do not; the message gives the reason and the remedy.
        """
