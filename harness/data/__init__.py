"""Data sets: raw files, photos and latents, as memory-mapped arrays."""
