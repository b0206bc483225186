"""Rollout engines on HTTP servers that this run does not start."""
