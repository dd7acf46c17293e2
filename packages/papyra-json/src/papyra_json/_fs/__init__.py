"""Copies of parts of files, and replacements of whole files."""
