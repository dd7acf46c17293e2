"""The record of an actor system in a table of a PostgreSQL database."""

try:
    import psycopg as _psycopg  # noqa: F401  # pyright: ignore[reportUnusedImport] - all modules need it
except ImportError as error:
    raise ImportError("the library psycopg is missing: pip install 'papyra-contrib[postgres]'") from error

from papyra_contrib.postgres._backend import PostgresPersistence

__all__ = ["PostgresPersistence"]
