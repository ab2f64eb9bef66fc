"""A data set's recipes as a grid of runs, what is kept of each, and the tables that are made from that alone."""
