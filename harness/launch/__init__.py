"""Plans, jobs, and who runs them."""
