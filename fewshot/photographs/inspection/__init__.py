"""What is found in a person's photographs before anything is trained."""
