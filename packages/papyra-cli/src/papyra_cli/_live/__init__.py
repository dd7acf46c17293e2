"""Running systems of this user, reached over their admin sockets."""
