"""Usage reports: requests, tokens, costs and latency by day, model, tool and user."""
