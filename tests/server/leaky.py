"""A gateway that leaks a key on purpose, in the way that LEAK names: the canaries must notice.

Run as run.py is; its workers import it again, so that they leak as well.
"""

import base64
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.engine.chat_call import Exchange
from app.http.routes import admin

KIND = os.environ["LEAK"]
_run, _as_text = Exchange.run, admin.as_text


async def run(self, ask, sink):
    key = self.config.openai.api_keys[0].val
    if KIND == "log":
        os.write(2, f"asking with {key}\n".encode())
    elif KIND == "address":
        os.write(1, b'{"request_id":"r","asked":"?key=%s"}\n' % quote(key, safe="").encode())
    elif KIND == "base64":
        os.write(2, base64.b64encode(f"user:{key}".encode()) + b"\n")
    elif KIND == "header":
        sink.headers.append(("x-debug", key[:8]))
    elif KIND == "file":
        folder = Path(os.environ["LEAK_FOLDER"])
        folder.mkdir(exist_ok=True)
        (folder / "debug.txt").write_text(key)
    elif KIND == "process":
        # Long enough to be looked at; it ends with its parent at the latest.
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)", key])
    admin.as_text = lambda found: _as_text(found) + (f"# {key}\n" if KIND == "metrics" else "")
    await _run(self, ask, sink)


Exchange.run = run

if __name__ == "__main__":
    import run as program

    sys.exit(program.main())
