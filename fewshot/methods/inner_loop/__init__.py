"""The inner loop of MAML: many tasks, each with its own weights, adapted at once."""
