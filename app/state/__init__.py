"""Memory that all worker processes share."""
