"""Authentication of callers, and authorization: which providers and models they may use."""
