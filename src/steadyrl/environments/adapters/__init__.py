"""Environments of other libraries, unmodified, as environments of this package."""
