"""Draw the images of an episode or a batch, as a pure function of (seed, index)."""
