"""Other people's programs at our server: how they are installed, and what they are connected to."""
