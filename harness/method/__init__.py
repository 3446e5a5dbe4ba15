"""The paper's method in torch: no files, no specs, plain numbers in."""
