"""MAML's engine: many tasks' own weights, adapted at once."""
