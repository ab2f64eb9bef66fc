"""Functions that change the layers of a network."""
