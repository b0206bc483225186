"""Worlds small enough to watch learning in: questions, drills, controls and recipes."""
