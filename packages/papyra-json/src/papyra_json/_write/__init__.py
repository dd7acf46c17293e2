"""Appends: group commit and the end of the file."""
