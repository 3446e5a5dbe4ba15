"""From the files of a study to one tidy table."""
