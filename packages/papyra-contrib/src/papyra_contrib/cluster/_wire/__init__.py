"""The wire format: frames, and values inside them."""
