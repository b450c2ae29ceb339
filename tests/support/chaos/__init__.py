"""Random calls, and the checks of what became of them."""
