"""Copying a store, record by record, and the check of the copy."""
