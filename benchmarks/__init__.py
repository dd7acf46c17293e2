"""Benchmarks of Papyra beside the published package, pykka and a floor.

See ``python -m benchmarks --help``.
"""
