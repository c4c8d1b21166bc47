"""The load generator: `python -m bench.load` with one JSON object as its argument.

Holds the connections open, sends the next request as soon as an answer is complete, checks every
answer, and prints one JSON object: ok, errors, times in ms. The age of a chunk is the time from its
writing upstream to its arrival here, on one clock.
"""

import asyncio
import json
import re
import sys
import time

import uvloop

from bench.heads import HEADS
from bench.live import LiveCaller
from bench.scenarios import PIECE, TEXT

_END_BYTES = 1000  # hold the last event
STAMP = re.compile(rb"@(\d+)@")


class ClientConnection(asyncio.Protocol):
    """One kept connection: sends a request as soon as the answer before is complete."""

    def __init__(self, plan, results):
        self.plan, self.results = plan, results
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        """Sends the first request."""
        self.transport = transport
        self.send_request()

    def send_request(self):
        """Sends the next request, or closes the connection when the run is over."""
        if self.results.is_over():
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.results.left -= 1
        self.began, self.first, self.pieces = time.monotonic(), None, []
        self.transport.write(self.plan.request)

    def data_received(self, data):
        """Collects the answer and times it."""
        now = time.monotonic()
        if self.first is None and (b"content" in data or b"text_delta" in data):
            self.first = now
        if self.plan.timed:
            stamp = time.monotonic_ns()
            self.results.ages += [(stamp - int(at)) / 1e6 for at in STAMP.findall(data)]
        self.pieces.append(data)
        if self.plan.chunks:
            if not data.endswith(b"0\r\n\r\n"):
                return
        elif not self.is_complete():
            return
        self.results.add(b"".join(self.pieces), self.began, self.first or now, now, self.plan)
        self.send_request()

    def is_complete(self):
        """Whether an answer with a length has all its bytes."""
        head, found, body = b"".join(self.pieces).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        return found and length and len(body) >= int(length[1])

    def connection_lost(self, error):
        """Counts a connection that was lost before the end as an error."""
        if not self.done.done():
            self.results.errors += 1
            self.results.samples.append(f"connection lost: {error!r}")
            self.done.set_result(None)


class Plan:
    """The request to send, and the text that the answer must have."""

    def __init__(self, asked):
        self.chunks, self.timed = asked["chunks"], bool(asked["streams"])
        wish = f"chunks={self.chunks} delay_ms={asked['delay_ms']} timed={int(self.timed)}"
        body = {"model": asked["model"], "messages": [{"role": "user", "content": wish}]}
        body |= asked["members"]
        end, piece = rb"data: \[DONE\]\n\n", rb'"content":"([^"]*)"'
        if asked["path"].endswith("/messages"):
            body["max_tokens"] = 4096
            end = rb'data: {"type":"message_stop"}\n\n'
            piece = rb'"text_delta","text":"([^"]*)"'
        if asked["path"].endswith("/responses"):
            body["input"] = body.pop("messages")
            body["store"] = False
            end, piece = rb"}\n\n", rb'"delta":"([^"]*)"'
        if self.chunks:
            body["stream"] = True
        if "GenerateContent" in asked["path"]:
            body = {"contents": [{"role": "user", "parts": [{"text": wish}]}]}
            end, piece = rb'"finishReason": ?"STOP".*}\r\n\r\n', rb'"text": ?"([^"]*)"'
        self.end, self.piece = re.compile(end + rb"\Z"), re.compile(piece)
        packed = json.dumps(body, separators=(",", ":")).encode()
        head = f"POST {asked['path']} HTTP/1.1\r\n"
        sent = HEADS[asked["heads"]] | asked["headers"]
        head += "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        self.request = head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(packed), packed)
        self.text = "".join(PIECE.format(n) for n in range(self.chunks)) if self.chunks else TEXT


class Results:
    """Counts and times (ms) of all connections, and when the run is over."""

    def __init__(self, asked):
        self.end = time.monotonic() + asked["seconds"] if not asked["streams"] else None
        self.left = asked["streams"] or sys.maxsize
        self.ok = self.errors = 0
        self.totals, self.firsts, self.ages, self.samples = [], [], [], []

    def is_over(self):
        """Whether no further request shall be sent."""
        return self.left <= 0 or (self.end is not None and time.monotonic() >= self.end)

    def add(self, answer, began, first, now, plan):
        """Checks an answer and adds its times."""
        error = self.error_in(answer, plan)
        if error:
            self.errors += 1
            self.samples.append(error)
            return
        self.ok += 1
        self.totals.append((now - began) * 1e3)
        self.firsts.append((first - began) * 1e3)

    def error_in(self, answer, plan):
        """What is wrong with an answer, or None."""
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return answer[:300].decode("latin-1")
        if not plan.chunks:
            message = json.loads(body)["choices"][0]["message"]["content"]
            return None if message == plan.text else f"another text: {message[:100]}"
        text = unchunked(body)
        if not plan.end.search(text, max(len(text) - _END_BYTES, 0)):
            return f"no end: {text[-200:]!r}"
        if plan.timed:
            count = len(STAMP.findall(text))
            return None if count == plan.chunks else f"{count} chunks"
        # Compares the whole text; decoding each chunk would measure the load generator itself.
        said = b"".join(plan.piece.findall(text))
        return None if said.decode() == plan.text else f"another text: {said[:100]!r}"


def unchunked(body):
    """The body without its chunk framing."""
    out, at = [], 0
    while True:
        line = body.index(b"\r\n", at)
        size = int(body[at:line], 16)
        if size == 0:
            return b"".join(out)
        out.append(body[line + 2 : line + 2 + size])
        at = line + size + 4


def percentile(values, part):
    """The value at the given part (0 to 1), None for no values."""
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * part), len(ordered) - 1)], 3) if ordered else None


async def main():
    """Runs the load that the argument describes and prints the results."""
    asked = json.loads(sys.argv[1])
    results = Results(asked)
    plan = Plan(asked) if not asked["frames"] else None
    loop = asyncio.get_running_loop()
    connections = []
    began = time.monotonic()
    for _ in range(asked["connections"]):
        _, connection = await loop.create_connection(
            lambda: ClientConnection(plan, results) if plan else LiveCaller(asked, results),
            "127.0.0.1",
            asked["port"],
        )
        connections.append(connection.done)
        if asked["streams"]:
            await asyncio.sleep(2 / asked["connections"])  # all connect within two seconds
    await asyncio.wait_for(asyncio.gather(*connections), asked["seconds"] + 60)
    took = time.monotonic() - began
    print(
        json.dumps(
            {
                "ok": results.ok,
                "errors": results.errors,
                "samples": results.samples[:3],
                "per_second": results.ok / took,
                "total_p50": percentile(results.totals, 0.5),
                "total_p99": percentile(results.totals, 0.99),
                "first_p50": percentile(results.firsts, 0.5),
                "age_p50": percentile(results.ages, 0.5),
                "age_p99": percentile(results.ages, 0.99),
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
