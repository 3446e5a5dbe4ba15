"""Numbers from samples and features."""
