"""Training and sampling. Knows paths, and neither grids nor stores."""
