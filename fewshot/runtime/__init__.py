"""What depends on the machine and not on few-shot learning: seeds, precision, memory, processes, files."""
