"""Files as the kernel gives them."""
