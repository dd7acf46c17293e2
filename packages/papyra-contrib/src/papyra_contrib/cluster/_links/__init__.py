"""The link to one other node: sending, receiving, and the order of messages."""
