"""Who we are measured against. Nothing here is used by the package."""
