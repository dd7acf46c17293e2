"""Counts of actors and messages, and the watch over actors that are busy for long."""
