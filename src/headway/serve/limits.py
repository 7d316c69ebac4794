"""Every bound of the HTTP edge, by name. A request may only ever cost what these allow."""

from __future__ import annotations

from dataclasses import dataclass, fields

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """Sizes are bytes, times are seconds. All of them are above zero."""

    header_bytes: int = 16 * KIB
    """Request line and headers together; more is answered 431."""
    header_count: int = 100
    header_s: float = 10.0
    """From a connection's start, or a request's first byte, to the end of its headers."""
    body_bytes: int = 4 * MIB
    """More is answered 413, whether announced by Content-Length or sent in chunks."""
    bodies_bytes: int = 256 * MIB
    """All bodies that are being received or wait to be parsed; one that finds no room is answered 429."""
    body_s: float = 30.0
    """From the end of the headers to the end of the body; then 408."""
    discard_s: float = 2.0
    """How long the rest of a refused body is read and dropped, so that its sender gets to see the refusal."""
    idle_s: float = 75.0
    """A connection without a request is closed after this long: longer than common proxies keep theirs."""
    connections: int = 4096
    """When full, the connection that was idle longest makes room; if none is idle, the new one is answered 503."""
    pipelined: int = 8
    """Requests that may wait on one connection while one is answered; more closes it after that answer."""
    unsent_bytes: int = 1 * MIB
    """What may wait in user space for a slow reader of one connection; more ends the connection."""
    write_stall_s: float = 30.0
    """How long a reader that is behind may take next to nothing, before its connection is ended."""
    write_stall_bytes: int = 16 * KIB
    """What such a reader has to take in that time."""
    ping_s: float = 10.0
    """A stream with nothing to send gets a comment this often, so that proxies keep it open."""
    deadline_s: float = 600.0
    """The longest any request may take; clients can ask for less."""
    deadline_grace_s: float = 1.0
    """How long after a deadline the edge ends a reply by itself when the engine is stuck."""
    text_threads: int = 2
    """Threads that parse, apply templates and tokenise."""
    preparing: int = 16
    """Requests that these threads are given at once. The rest of a burst waits, so that the event loop gets its turn:
    without this bound 256 arrivals at once hold it up several times as long (docs/log.md)."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not value > 0:
                raise ValueError(f"{each.name} must be above 0, not {value!r}")
