"""Sending jobs to where they run, each once, and how they stand there: what every launcher shares."""
