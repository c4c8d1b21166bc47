"""One module for each group of paths; each registers its own routes."""
