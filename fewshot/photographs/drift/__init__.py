"""Whether photographs change while a classifier is in use: the record of what was asked, and a test on it."""
