"""A classifier outside the laboratory: the predictor that needs no torch, its folder, and what writes it."""
