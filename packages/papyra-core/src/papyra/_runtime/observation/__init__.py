"""What is counted and watched while actors run."""
