"""NDJSON files as the record of a Papyra actor system."""

from papyra_json._json_file import JsonFilePersistence
from papyra_json._rotating_file import RotatingFilePersistence

__all__ = ["JsonFilePersistence", "RotatingFilePersistence"]
