"""The platforms that serve Claude, and what each of them lacks."""
