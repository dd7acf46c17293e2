"""The path of a message from its sender to a mailbox."""
