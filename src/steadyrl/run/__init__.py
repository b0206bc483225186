"""A run: its configuration, and the only place that wires classes together."""
