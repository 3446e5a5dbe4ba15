"""The page "What decides the sign", over several studies."""
