"""Measuring a policy on tasks it was not trained on."""
