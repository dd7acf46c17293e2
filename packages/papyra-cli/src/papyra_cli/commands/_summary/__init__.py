"""What `inspect summary` counts and shows."""
