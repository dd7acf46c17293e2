"""What a system takes from its process: threads, the clock, signals."""
