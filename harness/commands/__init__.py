"""What one types: one module for each group of commands, and what they print on the terminal."""
