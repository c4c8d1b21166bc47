"""The doors: each handler parses, calls one function of the engine, answers."""
