"""The link to one other node: what leaves, what arrives, and in which order."""
