"""Simulates every upstream on loopback, for the demo and the tests.

Start it with `python -m app.simulator --port 8998`. It speaks the upstreams' own protocols, replays
recorded answers, and fails in every way an upstream can fail when it is asked to (`faults.py`).
It is never part of a running gateway.
"""
