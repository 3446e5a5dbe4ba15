"""The settings of rivals' terms, with the defaults that their authors published; the terms are in `method/rivals/`."""
