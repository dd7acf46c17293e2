"""References to remote actors, asks to them, and the local actors that other nodes may reach."""
