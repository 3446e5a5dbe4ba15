"""From tables and arms to files: pages, LaTeX, Markdown and data."""
