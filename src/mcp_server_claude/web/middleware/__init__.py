"""ASGI middleware that every HTTP request passes before it reaches a route."""
