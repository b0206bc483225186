"""What the settings of every environment and every teacher have in common."""

from abc import abstractmethod

from steadyrl.base.variants import Variant
from steadyrl.environments.protocol import Environment, Teacher


class EnvironmentSettings(Variant):
    """Settings that make an environment.

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
            UserError: it cannot be made as described; the message says why.
        """

    @property
    def max_turns(self) -> int:
        """Turns of the model after which every episode is over."""
        return 1

    def require_turns(self, place: str, limit: int, *, attempts: int = 1) -> None:
        """Returns where `limit` turns are enough for a whole episode.

        Args:
            place: The setting that gives the limit.
            attempts: How often the task is attempted in one episode.

        Raises:
            ValueError: they are not; the message says how many are.
        """
        needed = self.max_turns * attempts
        if limit < needed:
            both = " in both attempts" if attempts > 1 else ""
            raise ValueError(
                f"{place} is {limit}, but an episode of {self.name!r} as it is set may take "
                f"{needed} turns{both}, and would be cut short without reward. Set it to {needed} "
                "or more."
            )


class TeacherSettings(Variant):
    """Settings that make a teacher, who demonstrates responses before reinforcement begins."""

    @abstractmethod
    def make(self, environment: Environment) -> Teacher:
        """The teacher, for the tasks of `environment`.

        Raises:
            UserError: it does not know this environment.
        """

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Returns where what is taught leaves something to learn in `environment`.

        Raises:
            ValueError: it does not; the message says why, and what to change.
        """
