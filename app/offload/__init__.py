"""Work outside the calls: child processes, where it would block the event loop; periodic work."""
