"""What would run and what it costs, from specs alone. No torch."""
