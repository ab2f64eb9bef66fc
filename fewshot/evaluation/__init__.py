"""Measuring: features once, accuracy per episode, records, their statistics."""
