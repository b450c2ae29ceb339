"""The life of a call: running, found by id, followed, resumed, stopped; conversation threads; rate limits per user."""
