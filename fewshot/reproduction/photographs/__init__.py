"""Measures what `check`, `suggest` and the maps of the predictions page tell, on data sets whose truth is known."""
