"""Plug-ins for other trainers; each module names the package that it needs."""
