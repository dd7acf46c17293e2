"""The registry that all nodes share: keys, members, and a replica of it."""
