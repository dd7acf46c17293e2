"""The runs of systems, put together from their records."""
