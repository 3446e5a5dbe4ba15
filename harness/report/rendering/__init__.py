"""From tables and arms to files: pages, LaTeX, Markdown and data."""

from pathlib import Path

TEMPLATES = Path(__file__).parents[1] / "templates"
