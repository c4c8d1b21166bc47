"""The load generator: `python -m bench.load` with one JSON object as its argument.

Holds the connections open, asks again as soon as an answer is whole, checks every answer, and
prints one JSON object: ok, errors, times in ms. Ages are from the writing of a chunk upstream to
its arrival here, on one clock.
"""

import asyncio
import json
import re
import sys
import time

import uvloop

from bench.heads import HEADS
from bench.scenarios import PIECE, TEXT

STAMP = re.compile(rb"@(\d+)@")


class Caller(asyncio.Protocol):
    def __init__(self, plan, results):
        self.plan, self.results = plan, results
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.ask()

    def ask(self):
        if self.results.over():
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.results.left -= 1
        self.began, self.first, self.pieces = time.monotonic(), None, []
        self.transport.write(self.plan.request)

    def data_received(self, data):
        now = time.monotonic()
        if self.first is None and b"content" in data:
            self.first = now
        if self.plan.timed:
            stamp = time.monotonic_ns()
            self.results.ages += [(stamp - int(at)) / 1e6 for at in STAMP.findall(data)]
        self.pieces.append(data)
        if self.plan.chunks:
            if not data.endswith(b"0\r\n\r\n"):
                return
        elif not self.whole():
            return
        self.results.take(b"".join(self.pieces), self.began, self.first or now, now, self.plan)
        self.ask()

    def whole(self):
        head, found, body = b"".join(self.pieces).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        return found and length and len(body) >= int(length[1])

    def connection_lost(self, error):
        if not self.done.done():
            self.results.errors += 1
            self.results.samples.append(f"connection lost: {error!r}")
            self.done.set_result(None)


class Plan:
    def __init__(self, asked):
        self.chunks, self.timed = asked["chunks"], bool(asked["streams"])
        body = {
            "model": asked["model"],
            "messages": [
                {
                    "role": "user",
                    "content": f"chunks={self.chunks} delay_ms={asked['delay_ms']} "
                    f"timed={int(self.timed)}",
                }
            ],
        }
        body |= asked["members"]
        if self.chunks:
            body["stream"] = True
        packed = json.dumps(body, separators=(",", ":")).encode()
        head = f"POST {asked['path']} HTTP/1.1\r\n"
        sent = HEADS[asked["heads"]] | asked["headers"]
        head += "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        self.request = head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(packed), packed)
        self.text = "".join(PIECE.format(n) for n in range(self.chunks)) if self.chunks else TEXT


class Results:
    def __init__(self, asked):
        self.end = time.monotonic() + asked["seconds"] if not asked["streams"] else None
        self.left = asked["streams"] or sys.maxsize
        self.ok = self.errors = 0
        self.totals, self.firsts, self.ages, self.samples = [], [], [], []

    def over(self):
        return self.left <= 0 or (self.end is not None and time.monotonic() >= self.end)

    def take(self, answer, began, first, now, plan):
        wrong = self.wrong(answer, plan)
        if wrong:
            self.errors += 1
            self.samples.append(wrong)
            return
        self.ok += 1
        self.totals.append((now - began) * 1e3)
        self.firsts.append((first - began) * 1e3)

    def wrong(self, answer, plan):
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return answer[:300].decode("latin-1")
        if not plan.chunks:
            message = json.loads(body)["choices"][0]["message"]["content"]
            return None if message == plan.text else f"another text: {message[:100]}"
        text = unchunked(body)
        if not text.endswith(b"data: [DONE]\n\n"):
            return f"no [DONE]: {text[-200:]!r}"
        if plan.timed:
            count = len(STAMP.findall(text))
            return None if count == plan.chunks else f"{count} chunks"
        # Every answer's text is compared whole; decoding each chunk would measure ourselves.
        said = b"".join(re.findall(rb'"content":"([^"]*)"', text))
        return None if said.decode() == plan.text else f"another text: {said[:100]!r}"


def unchunked(body):
    out, at = [], 0
    while True:
        line = body.index(b"\r\n", at)
        size = int(body[at:line], 16)
        if size == 0:
            return b"".join(out)
        out.append(body[line + 2 : line + 2 + size])
        at = line + size + 4


def percentile(values, part):
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * part), len(ordered) - 1)], 3) if ordered else None


async def main():
    asked = json.loads(sys.argv[1])
    plan, results = Plan(asked), Results(asked)
    loop = asyncio.get_running_loop()
    callers = []
    began = time.monotonic()
    for _ in range(asked["connections"]):
        _, caller = await loop.create_connection(
            lambda: Caller(plan, results), "127.0.0.1", asked["port"]
        )
        callers.append(caller.done)
        if asked["streams"]:
            await asyncio.sleep(2 / asked["connections"])  # a crowd comes within two seconds
    await asyncio.wait_for(asyncio.gather(*callers), asked["seconds"] + 60)
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
