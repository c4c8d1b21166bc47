"""The vocabulary every other room speaks: pure data, no sockets, no clocks."""
