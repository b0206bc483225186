"""Names that parts of environments had in earlier versions, and that nothing reads any more."""

from steadyrl.base.errors import UserError

FORMER_NAMES = {"guided": "guide", "longest_episode": "max_turns"}
"""The present name of each."""


def refuse_former_names(part: object) -> None:
    """Refuses an environment, or its settings, with a method or property of a former name.

    A plain attribute is the part's own affair.

    Raises:
        UserError: there is one. It would be ignored without a word.
    """
    kind = type(part)
    for former, present in FORMER_NAMES.items():
        if hasattr(kind, former):
            raise UserError(
                f"{kind.__name__} defines {former!r}, which is called {present!r} now and would "
                "not be used. Rename it."
            )
