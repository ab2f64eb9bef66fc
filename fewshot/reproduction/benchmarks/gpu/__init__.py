"""What the code does and costs on one GPU."""
