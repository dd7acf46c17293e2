"""The files of a set: their names, lock, rotation and quarantine."""
