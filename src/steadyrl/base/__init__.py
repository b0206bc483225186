"""Utilities for every layer: errors, settings, locks, HTTP and calls into user code."""
