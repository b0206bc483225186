"""Prefixes of the reasons for which episodes were cut short."""

ENVIRONMENT_FAILED = "environment failed"
"""Start of the truncation reason of an episode whose environment raised an exception."""

PROMPT_TOO_LONG = "prompt too long"
"""Start of the truncation reason of an episode that was not started, because its prompt leaves no
room for a response."""
