"""The commands that take grid files: what would run, run it here, or send it to a cluster."""
