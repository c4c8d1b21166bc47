"""Which credential answers a call, and which are cooling down."""
