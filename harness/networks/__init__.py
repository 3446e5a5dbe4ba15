"""Networks that are built, loaded, saved and exported."""
