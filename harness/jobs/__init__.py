"""One training and its measurements, on this machine: started, watched, recorded. Knows no SLURM."""
