"""References, exports and asks beyond this process."""
