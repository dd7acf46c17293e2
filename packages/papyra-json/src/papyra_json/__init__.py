"""NDJSON files as the record of a Papyra actor system."""
