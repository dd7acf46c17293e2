"""Scan, recover, compact and compress."""
