"""Formats tables of accuracies and of trainings from stored results."""
