"""How actions for an OpenEnv server are written, and its observations read."""

import json
from collections.abc import Mapping
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.environments.thinking import strip_thinking

JsonObject = dict[str, Any]


class Format:
    """How actions are written and observations are read.

    Args:
        action: Field of the action for the model's text; None: the model writes JSON.
        observation: Field of the observation that the model reads; None: all of it.
        schema: JSON schema of the action.
    """

    def __init__(self, action: str | None, observation: str | None, schema: JsonObject) -> None:
        self._action = action
        self._observation = observation
        self.instruction = (
            f"Answer with JSON of this schema: {json.dumps(_fields(schema))}"
            if action is None
            else _fields(schema)[action].get("description") or f"Answer with the {action}."
        )

    @classmethod
    def of(
        cls, schemas: Mapping[str, JsonObject], *, action: str | None, observation: str | None
    ) -> "Format":
        """The format of the server's schemas.

        Args:
            action: Field of the action for the model's text, if it is given.
            observation: Field of the observation that the model reads, if it is given.

        Raises:
            UserError: the server has no field of that name.
        """
        given = {"action": action, "observation": observation}
        for part, field in given.items():
            known = _fields(schemas[part])
            if field is not None and field not in known:
                raise UserError(
                    f"environment.{part} is {field!r}, but the server's {part} has "
                    f"{', '.join(known)}."
                )
        needed = schemas["action"].get("required", [])
        texts = _texts(schemas["observation"])
        only = needed[0] if len(needed) == 1 and needed[0] in _texts(schemas["action"]) else None
        return cls(
            action=action or only,
            observation=observation or (texts[0] if len(texts) == 1 else None),
            schema=schemas["action"],
        )

    def action_of(self, text: str) -> JsonObject:
        """The action that a turn means.

        Raises:
            ValueError: it is not a JSON object.
        """
        said = strip_thinking(text).strip()
        if self._action is not None:
            return {self._action: said}
        action = json.loads(said)
        if not isinstance(action, dict):
            raise ValueError("it is not a JSON object")
        return action

    def text_of(self, observation: JsonObject) -> str:
        """What the model reads."""
        if self._observation is not None:
            return str(observation.get(self._observation, ""))
        return json.dumps(
            {name: value for name, value in observation.items() if name != "metadata"}
        )


def _fields(schema: JsonObject) -> dict[str, JsonObject]:
    """Fields of an action or observation, without those that all of them have."""
    fields = schema.get("properties", {})
    return {
        name: each for name, each in fields.items() if name not in ("metadata", "reward", "done")
    }


def _texts(schema: JsonObject) -> list[str]:
    return [name for name, field in _fields(schema).items() if field.get("type") == "string"]
