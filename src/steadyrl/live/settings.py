"""Configuration of the live loop."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from steadyrl.algorithms.erl_internalization import OnPolicyDistillation
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.gateway.limits import LimitSettings
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.tool_calls import ToolSettings
from steadyrl.run.config import RunConfig
from steadyrl.run.config_errors import describe

HOOK = r"^[\w.]+:\w+$"


class LiveServerSettings(Settings):
    """Where the policy is served."""

    host: str = "127.0.0.1"
    """Address to listen at. Another than that of this machine needs a key."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen at. 0: any free one, which is printed."""

    pinned: bool = False
    """Whether all tokens of a session must be of one version of the policy. Calls after another one
    is served, or while it is loaded, are then refused with status 409 and the code
    `policy_changed`; otherwise the session goes on, and each token names its version."""

    tools: ToolSettings = ToolSettings()
    limits: LimitSettings = LimitSettings()


class GateSettings(Settings):
    """When a new policy is promoted."""

    margin: float = Field(0.02, ge=0.0, allow_inf_nan=False)
    """Largest distance of the held-out score to the best of all policies that were promoted, with
    which a policy is promoted. All play the same tasks with the same seeds."""

    max_drift: float = Field(0.1, ge=0.0, allow_inf_nan=False)
    """Largest fall of the mean log-likelihood of the drift set, in nats per token, against the
    policy that the loop began with."""

    texts: Path | None = None
    """Drift set: JSON Lines with `prompt`, a text or messages, and `answer`. None: the general
    texts of the package, if the tokenizer can represent them."""


class LiveConfig(Settings):
    """Configuration of a loop of serving and learning."""

    run: RunConfig
    """Model, algorithm, engine and optimizer. Its environment is the held-out gate. Steps, cold
    start and trackers have no effect."""

    store: str | None = None
    """URL of the session store, as SQLAlchemy reads it. None: an SQLite file in the folder."""

    sessions: int = Field(64, ge=1)
    """A generation begins when this many sessions with consent and feedback are waiting."""

    max_sessions: int = Field(512, ge=1)
    """Maximum number of sessions in a generation. More wait for the next one."""

    settle: float = Field(60.0, ge=0.0, allow_inf_nan=False)
    """A session is learned from no earlier than this many seconds after its last call or feedback,
    so that later feedback on it is not missed."""

    texts: bool = True
    """Learn from texts by reflections and second attempts. False: only from their reward."""

    text_reward: float = Field(0.0, allow_inf_nan=False)
    """Reward of an answer whose only feedback is text: a correction counts as a failure."""

    reward: str | None = Field(None, pattern=HOOK)
    """`module:function` of (prompt messages, answer, correction), which returns a number. None: the
    rewards are those that users gave, and second attempts are judged by their agreement."""

    redact: str | None = Field(None, pattern=HOOK)
    """`module:function` of a text, which returns the text that may be stored."""

    find_failure: str | None = Field(None, pattern=HOOK)
    """`module:function` of a later message of the user, which returns what it says about a failure
    of the answer before, or an empty text. None: later messages are not feedback."""

    gate: GateSettings = GateSettings()
    server: LiveServerSettings = LiveServerSettings()

    @property
    def algorithm(self) -> ExperientialSettings:
        """Settings of reflections, second attempts and the objective."""
        assert isinstance(self.run.algorithm, ExperientialSettings)  # by _check_run
        return self.run.algorithm

    @model_validator(mode="after")
    def _check_run(self) -> "LiveConfig":
        _run, algorithm = self.run, self.run.algorithm
        if not isinstance(algorithm, ExperientialSettings):
            raise ValueError(
                f"run.algorithm is {algorithm.name!r}. Set it to 'erl', with texts: false if only "
                "rewards are to be learned from."
            )
        if isinstance(algorithm.internalization, OnPolicyDistillation):
            raise ValueError(
                "run.algorithm.internalization is 'on_policy_distillation', which needs the tokens "
                "of first attempts, and redacted sessions have none. Choose another one."
            )
        reason = algorithm.staleness_unsupported_reason
        if reason is not None:
            raise ValueError(
                f"answers may be older than the weights that learn from them: {reason}"
            )
        if algorithm.mini_batches != 1 or algorithm.updates != "mixed" or algorithm.needs_reference:
            raise ValueError(
                "run.algorithm has mini_batches above 1, sequential updates or a reference policy, "
                "which live sessions do not support. Leave them at their defaults."
            )
        return self

    @model_validator(mode="after")
    def _check_support(self) -> "LiveConfig":
        run = self.run
        for wrong, what, remedy in (
            (run.cold_start is not None, "run.cold_start is given", "Train it before"),
            (run.learner.name != "local", "run.learner is sharded", "Set it to 'local'"),
            (run.learner.lora is not None, "run.learner.lora is given", "Leave it out"),
            (run.sampling.is_truncated, "run.sampling has top_p or top_k", "Leave them out"),
            (run.optimizer.schedule != "constant", "run.optimizer.schedule decays", "Set constant"),
            (run.routing_replay is RoutingReplay.R3, "run.routing_replay is 'r3'", "Set 'none'"),
            (run.algorithm.reads_candidates > 0, "run.algorithm reads candidates", "Do without"),
            (run.engine.overlap, "run.engine.overlap is true", "Set it to false"),
        ):
            if wrong:
                raise ValueError(f"{what}, which the live loop does not support. {remedy}.")
        if self.max_sessions < self.sessions:
            raise ValueError(
                f"max_sessions is {self.max_sessions}, less than sessions, which is "
                f"{self.sessions}. Raise max_sessions or lower sessions."
            )
        return self


def read_live_config(path: Path) -> LiveConfig:
    """Reads the configuration of a loop from a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, or is not a valid configuration.
    """
    if not path.is_file():
        raise UserError(f"There is no configuration at {path}. Give a YAML file (docs/live.md).")
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return LiveConfig.model_validate(values)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML: {reason}. Correct it, or write it anew.") from error
    except ValidationError as error:
        raise UserError(
            f"The configuration of {path} is not valid: {describe(error, LiveConfig, values)}"
        ) from error


def write_live_config(config: LiveConfig) -> str:
    """The configuration as YAML with all fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
