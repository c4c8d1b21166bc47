"""Parrot: an invented API, the example of CONTRIBUTING.md."""
