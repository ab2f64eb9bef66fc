"""Pixels, labelled: decoded, stored, augmented, cut out."""
