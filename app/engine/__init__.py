"""One call from request to last byte. No web framework, no provider and no front by name."""
