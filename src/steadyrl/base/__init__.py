"""What every layer may use: errors, settings, locks, HTTP and calls into user code."""
