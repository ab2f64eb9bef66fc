"""Exported classifiers: the predictor that needs no torch, its folder, the export, and the server."""
