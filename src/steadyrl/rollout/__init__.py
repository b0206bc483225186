"""Episodes become groups, groups become token batches."""
