"""The loop, checkpoints and the journal."""
