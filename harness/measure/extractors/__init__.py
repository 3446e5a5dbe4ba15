"""Networks whose features are compared."""
