"""The trainer's side of the policy: scores, updates and publishes it."""
