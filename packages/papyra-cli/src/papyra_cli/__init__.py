"""The command papyra."""
