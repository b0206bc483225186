"""The loop, and what it needs: a learner, measurements, checkpoints and a journal."""
