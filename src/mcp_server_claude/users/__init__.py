"""Users of the HTTP server: roles, limits, tokens and sessions."""
