"""Reinforcement learning of language models that does not collapse."""
