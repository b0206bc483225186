"""Rollout engines behind one protocol: prompts in; tokens, log-probabilities and routing out."""
