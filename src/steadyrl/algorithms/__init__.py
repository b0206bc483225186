"""What to collect, how to credit it, and which terms to minimise."""
