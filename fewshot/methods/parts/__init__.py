"""What methods are built from: solvers, and networks with weights or statistics of each episode."""
