"""What people write (grids, scales, profiles), and the specs that it becomes. No torch, no folders of results."""
