"""Laws of the cluster door on a real SLURM."""
