"""What changes a network: its layers replaced, folded or joined."""
