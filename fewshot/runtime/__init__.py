"""This machine: seeds, precision, memory, processes, files. Nothing of few-shot learning."""
