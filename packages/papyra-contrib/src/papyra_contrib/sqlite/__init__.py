"""The record of an actor system in an SQLite database: ``sqlite:./papyra.db``."""

from papyra_contrib.sqlite._backend import SQLitePersistence

__all__ = ["SQLitePersistence"]
