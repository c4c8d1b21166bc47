"""any-proxy: one door to every AI chat."""

__version__ = "0.1.0"
