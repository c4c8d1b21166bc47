"""Claude Code as its users run it: `claude -p`, in a home of its own, with nothing but this gateway
to talk to."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.sdk.programs import claude_code

# Nobody else is called: no telemetry, no error reports, no updates.
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}


class ClaudeCode:
    """One user of Claude Code. `work` is the folder it works in, and not trusted with more."""

    def __init__(self, home: Path, url: str, model: str) -> None:
        self.work = home / "work"
        self.work.mkdir()
        self._program = str(claude_code())
        self._env = QUIET | {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": f"{url}/c",
            "ANTHROPIC_AUTH_TOKEN": "pool",
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        }

    def ask(self, prompt: str, *flags: str) -> dict[str, Any]:
        """What it says of one prompt: `result`, `is_error`, `session_id` and more."""
        done = subprocess.run(
            [self._program, "-p", prompt, "--output-format", "json", *flags],
            cwd=self.work,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout.startswith("{"), (done.returncode, done.stdout, done.stderr)
        said: dict[str, Any] = json.loads(done.stdout)
        return said
