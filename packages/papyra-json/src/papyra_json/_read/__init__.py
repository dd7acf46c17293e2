"""Queries, searches by time, and following."""
