"""Log lines that nobody can forge: control characters are escaped, whatever a client or a library put in.

The content of requests is never logged.
"""

from __future__ import annotations

import logging
import sys

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
_ESCAPES |= {0x2028: "\\u2028", 0x2029: "\\u2029"}


def escape(text: str) -> str:
    """The text in one line, without terminal codes."""
    return text.translate(_ESCAPES)


class EscapingFormatter(logging.Formatter):
    """Escapes the message; a traceback keeps its line breaks, each line escaped and indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escape(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join(f"    {escape(line)}" for line in lines)


def configure(level: int = logging.INFO) -> None:
    """Send the logs of this process to standard error. Of the HTTP library only what is an error of ours: whatever
    strangers send must not fill the log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
