"""From the tidy table to tables, tests and sentences."""
