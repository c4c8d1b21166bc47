"""Callers in numbers: streams that follow one another, and short requests at a steady rate.

They speak HTTP/1.1 themselves, so that hundreds of them cost this process little, and every way
to fail is counted by name.
"""

import asyncio
import json
import threading
from collections import Counter

CHAT = "/c/v1/chat/completions"


class Load:
    """`streams` at any time, each as long as `model` makes it, and `per_second` short ones."""

    def __init__(
        self, port: int, *, streams: int = 0, model: str = "sim-long-20+drip", per_second: int = 0
    ) -> None:
        self.port, self.streams, self.model, self.per_second = port, streams, model, per_second
        self.streamed: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.open = 0  # streams whose first event has come
        self._ending = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What is open ends by itself."""
        self._ending = True
        self._thread.join()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(self.streams):
                group.create_task(self._stream_on(n * 2 / self.streams))
            if self.per_second:
                group.create_task(self._ask_on(group))

    async def _stream_on(self, delay: float) -> None:
        await asyncio.sleep(delay)
        while not self._ending:
            self.streamed[await self._one({"model": self.model, "stream": True})] += 1

    async def _ask_on(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()

        async def ask() -> None:
            self.asked[await self._one({"model": "gpt-4o"})] += 1

        while not self._ending:
            group.create_task(ask())
            due += 1 / self.per_second
            await asyncio.sleep(max(0, due - loop.time()))

    async def _one(self, more: dict) -> str:
        """How one call ended: "whole", or what was wrong with it."""
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}]} | more).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(60):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, TimeoutError) as error:
            return f"connect: {type(error).__name__}"
        counted = False
        try:
            async with asyncio.timeout(120):
                writer.write(head.encode() + body)
                status = await reader.readline()
                if b" 200 " not in status:
                    return f"status: {status.decode().strip()[9:12] or 'none'}"
                length = None
                while (line := await reader.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                if length is not None:
                    return "whole" if len(await reader.readexactly(length)) else "empty"
                told = b""
                while size := int(await reader.readline() or b"no", 16):
                    told = (told + await reader.readexactly(size + 2))[-400:]
                    if not counted:
                        counted = True
                        self.open += 1
                if b'"shutting_down"' in told:
                    return "shutting_down"
                return "whole" if told.endswith(b"data: [DONE]\n\n\r\n") else "no end"
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
            return f"cut: {type(error).__name__}"
        finally:
            self.open -= counted
            writer.close()
