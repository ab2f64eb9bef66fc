"""Tables of accuracies and trainings from stored results."""
