"""Evaluation of a policy on held-out tasks and off-task texts."""
