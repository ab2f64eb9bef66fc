"""Solvers that fit a head to each of many episodes at once."""
