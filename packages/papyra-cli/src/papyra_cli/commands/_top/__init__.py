"""The snapshot of a running system, and the screen that refreshes it."""
