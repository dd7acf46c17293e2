"""The snapshot of a running system, and the screen that renews it."""
