"""A stand-in for every upstream, on loopback: the demo and the tests talk to it, not the world.

Start it with `python -m app.simulator --port 8998`. It speaks the upstreams' own wires, replays
recorded answers, and fails in every way an upstream can fail when it is asked to (`faults.py`).
Never part of a running gateway.
"""
