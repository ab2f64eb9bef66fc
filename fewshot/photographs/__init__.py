"""A user's folder of photographs: checks before a classifier is fitted, and reports of its predictions."""
