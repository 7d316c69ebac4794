"""What a client does when it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Tries again as the official OpenAI client does (read in its ``_base_client.py``).

    At most ``retries`` times, after the time that the server names in ``retry-after``. It leaves it where the server
    says that trying again is of no use (``x-should-retry: false``, which goes with naming no time), or names more than
    ``retry_after_max_s``. A time that is not above 0 is no answer: then the wait doubles from ``backoff_s`` to
    ``backoff_max_s``, less up to a quarter of it at random.
    """

    retries: int = 2
    retry_after_max_s: float = 120.0
    backoff_s: float = 0.5
    backoff_max_s: float = 8.0
    jitter: float = 0.25

    def wait_s(self, attempt: int, retry_after_s: float | None, random: Random) -> float | None:
        """How long after try number ``attempt`` (from 0) was refused the next is sent; None if there is none."""
        if attempt >= self.retries or retry_after_s is None or retry_after_s > self.retry_after_max_s:
            return None
        if retry_after_s > 0.0:
            return retry_after_s
        backoff_s = min(self.backoff_s * 2.0**attempt, self.backoff_max_s)
        return backoff_s * (1.0 - self.jitter * random.random())


IMPATIENT = Client(retries=0)
"""Takes no for an answer."""
OPENAI_SDK = Client()
