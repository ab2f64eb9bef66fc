"""Evaluation: features of image sets, accuracy of each episode, records and their statistics."""
