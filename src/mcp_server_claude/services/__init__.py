"""What a running server holds: opened once, in the background, and closed once."""
