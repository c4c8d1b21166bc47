"""`make demo`: runs the simulator and a gateway that uses only it, until Ctrl-C.

Prints a command to try once the gateway answers. When either process ends, the other is stopped.
"""

import argparse
import http.client
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[2]
START_SECONDS = 30
STOP_SECONDS = 75  # the gateway lets open streams finish
CURL = """
The gateway answers on http://{address}. Try it, in another terminal:

  curl http://{address}/c/v1/chat/completions \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Add "stream": true to see it stream. The console, in a browser: http://{address}/admin/

Claude Code, with a simulated Gemini:

  ANTHROPIC_BASE_URL=http://{address}/c ANTHROPIC_AUTH_TOKEN=pool \\
    claude --model gemini/gemini-2.5-flash

Ctrl-C stops it.
"""


class Stopped(Exception):
    """SIGINT or SIGTERM was received."""


def main() -> int:
    """Runs both processes until a signal or until one ends; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.simulator.demo", description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "etc" / "demo.yaml")
    parser.add_argument("--gateway", default="127.0.0.1:8999", help="as the config says")
    parser.add_argument("--simulator-port", type=int, default=8998, help="as the config says")
    asked = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    simulator = ["-m", "app.simulator", "--port", str(asked.simulator_port), "--with-parent"]
    gateway = [str(ROOT / "run.py"), "-c", str(asked.config)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (simulator, gateway):
            # Out of the terminal's group, else Ctrl-C would signal the processes twice.
            started.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, process_group=0))
        if _wait_until_it_answers(asked.gateway, started):
            print(CURL.format(address=asked.gateway), flush=True)
        while all(each.poll() is None for each in started):
            time.sleep(0.2)
        return next(code for each in started if (code := each.poll()) is not None) or 1
    except Stopped:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave one behind
        for each in reversed(started):
            _end(each)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _wait_until_it_answers(address: str, started: list[subprocess.Popen[bytes]]) -> bool:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and all(each.poll() is None for each in started):
        connection = http.client.HTTPConnection(address, timeout=1)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
