"""Services of a running server: opened once, in the background, and closed once."""
