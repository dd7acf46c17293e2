"""Which store a command works on, and its session."""
