"""The record of an actor system in a table of a PostgreSQL database."""

from papyra_contrib.postgres._backend import PostgresPersistence

__all__ = ["PostgresPersistence"]
