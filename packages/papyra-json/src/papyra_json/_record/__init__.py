"""One record as a line of a file."""
