"""HTML pages about photographs and predictions."""
