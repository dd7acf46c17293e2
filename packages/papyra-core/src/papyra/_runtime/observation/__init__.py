"""Counts of actors and messages, and the search for actors that are busy for too long."""
