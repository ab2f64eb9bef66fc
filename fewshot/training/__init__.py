"""Training: steps, optimizer, validation, tracking, the folder of a run."""
