"""The store that a command works on, and its session."""
