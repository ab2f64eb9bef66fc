"""Runs the recipes of a data set, stores their results, and makes tables and figures from the stored results."""
