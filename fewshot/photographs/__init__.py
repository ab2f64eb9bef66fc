"""A user's folder of photographs: what it tells before a classifier is fitted, and what a classifier says of it."""
