"""Benchmarks of Papyra beside the published package, pykka and a floor; see ``python -m benchmarks --help``."""
