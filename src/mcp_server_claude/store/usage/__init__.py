"""Reports on usage and cost, counted in the database."""
