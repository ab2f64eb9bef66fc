"""Training: optimizer steps, validation, tracking, and the folder of a run."""
