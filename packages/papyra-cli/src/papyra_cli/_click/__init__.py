"""Our click commands, options and completion."""
