"""The formulas: numbers from features."""
