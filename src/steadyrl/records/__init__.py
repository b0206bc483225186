"""Frozen records that pass between the parts. They know nothing of models, rewards or losses."""
