"""Tries the openai 2.x client and LiteLLM against a real server. They can't share an environment with openai 3.x.

Makes ``.venv-clients`` (once), starts ``headway serve`` with the bundled model, runs ``client_checks.py`` there, and
ends with its status: 0 if every check passed.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from headway.bench.launch import HOST, headway_server

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-clients"
CHECKS = Path(__file__).with_name("client_checks.py")
SMALL_QUEUE = ("--max-running", "4", "--max-queued-requests", "4")
"""So that a handful of requests at once is more than the server admits."""
PACKAGES = ("openai>=2,<3", "litellm>=1.80")


def prepare() -> Path:
    """The Python of an environment that has the packages."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / ".ready"
    wanted = "\n".join(PACKAGES)
    if not ready.is_file() or ready.read_text() != wanted:
        print(f"setting up {ENVIRONMENT.name} with {', '.join(PACKAGES)} ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        ready.write_text(wanted)
    return python


def main() -> int:
    python = prepare()
    with headway_server("--quiet", *SMALL_QUEUE) as server:
        return subprocess.run([python, CHECKS, f"http://{HOST}:{server.port}/v1"]).returncode


if __name__ == "__main__":
    sys.exit(main())
