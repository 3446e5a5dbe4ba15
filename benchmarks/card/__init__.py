"""The parts of `benchmarks/gpu.py`: what must be right and how fast it is on one GPU."""
