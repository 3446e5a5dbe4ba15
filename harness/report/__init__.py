"""The reading side: from stored results to tables, figures and one HTML page. Needs neither torch nor a GPU."""

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
