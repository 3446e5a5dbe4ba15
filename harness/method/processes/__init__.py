"""The generative processes: each draws times, makes noisy images, and has its loss and its sampler."""
