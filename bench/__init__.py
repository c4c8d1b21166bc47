"""What a request and a streamed chunk cost: the gateway beside nginx, on loopback, in one run.

`make bench` starts a small upstream of its own, nginx as a plain reverse proxy and the gateway,
drives the same load through each, and prints the CPU time of the whole process tree per finished
request and per streamed chunk. Read the ratios: absolute figures belong to the machine.
"""
