"""Runs the method: data, training, sampling. Knows paths, and neither grids nor stores."""
