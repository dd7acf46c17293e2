"""NDJSON files as the record of a Papyra actor system."""

from papyra_json._rotating import RotatingFilePersistence
from papyra_json._single import JsonFilePersistence

__all__ = ["JsonFilePersistence", "RotatingFilePersistence"]
