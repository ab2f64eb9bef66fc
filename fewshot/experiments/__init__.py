"""Experiments: builds methods and data from a configuration, and measures runs."""
