"""Where the parts of a run are: in this process, or on a Ray cluster."""
