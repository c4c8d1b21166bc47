"""What is a process: how it starts, stops and reloads."""
