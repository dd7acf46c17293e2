"""One file of a set, plain or compressed."""
