"""Work that would hold up an event loop, in child processes."""
