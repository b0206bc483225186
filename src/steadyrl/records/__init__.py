"""Frozen records that components exchange. They do not depend on models, rewards or losses."""
