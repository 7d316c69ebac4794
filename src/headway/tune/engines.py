"""How a batch size is set: by a running Headway's caps, by starting the server anew, or by asking no more at once."""

from __future__ import annotations

import asyncio
import http.client
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from headway.bench.target import Target, TargetError
from headway.policy.objectives import parts_ms
from headway.policy.slo import Objective
from headway.tune.admin import Admin
from headway.tune.process import Process, is_ready, placeholders

FILLED_IN = {
    "batch": "requests in a step",
    "tokens": "tokens in a step",
    "port": "that of the URL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """``batch``: most requests in a step; ``tokens``: most tokens in one. None: the engine's own."""

    batch: int | None = None
    tokens: int | None = None

    def __str__(self) -> str:
        parts = [f"batch {self.batch}"] if self.batch is not None else []
        parts += [f"{self.tokens} tokens a step"] if self.tokens is not None else []
        return ", ".join(parts) or "its own settings"


class Engine(Protocol):
    """``how``: a sentence. ``has_tokens``: whether ``Knobs.tokens`` is one of its knobs. ``is_restarted``: a change of
    knobs is a new start, with cold caches. ``has_adaptive``: it can also decide for itself (``use_adaptive``)."""

    how: str
    has_tokens: bool
    is_restarted: bool
    has_adaptive: bool

    async def use(self, knobs: Knobs) -> None: ...

    async def use_adaptive(self) -> None: ...

    async def close(self) -> None:
        """As it was before, whatever happened."""
        ...


class Concurrency:
    """Any server as it is: no more requests at once than the batch is to have."""

    how = "the server as it is; so many requests at once are the batch"
    has_tokens = False
    is_restarted = False
    has_adaptive = False

    async def use(self, knobs: Knobs) -> None:
        return

    async def use_adaptive(self) -> None:
        return

    async def close(self) -> None:
        return


class HeadwayCaps:
    """A running Headway, by its admin endpoint. At a static point it promises nothing, so that nobody is refused or
    held back for a promise, and its caps are the point's; adaptive, it promises what is measured, with its own caps."""

    how = "Headway's caps are changed while it runs; promises are off at the static points"
    has_tokens = True
    is_restarted = False
    has_adaptive = True

    def __init__(self, admin: Admin, before: dict[str, Any], promised: Mapping[str, Objective]) -> None:
        self._admin, self._before, self._promised = admin, before, promised

    @classmethod
    async def at(cls, admin: Admin, promised: Mapping[str, Objective]) -> HeadwayCaps:
        """``promised``: what is promised by class where the policy is adaptive. Raises ``TargetError``."""
        before = await asyncio.to_thread(admin.read)
        if not isinstance(before.get("caps"), dict) or not isinstance(before.get("classes"), dict):
            raise TargetError("the admin endpoint does not say classes and caps")
        return cls(admin, before, promised)

    async def use(self, knobs: Knobs) -> None:
        nothing = {"ttft_ms": None, "itl_ms": None, "e2e_ms": None}
        caps = dict(self._before["caps"])
        if knobs.batch is not None:
            caps["max_running"] = knobs.batch
        if knobs.tokens is not None:
            caps["max_step_tokens"] = knobs.tokens
        change = {"classes": dict.fromkeys(self._before["classes"], nothing), "caps": caps}
        await asyncio.to_thread(self._admin.change, change)

    async def use_adaptive(self) -> None:
        changed = {
            name: {f"{part}_ms": value for part, value in parts_ms(objective).items()}
            for name, objective in self._promised.items()
            if name in self._before["classes"]
        }
        classes = {**self._before["classes"], **changed}
        await asyncio.to_thread(self._admin.change, {"classes": classes, "caps": self._before["caps"]})

    async def close(self) -> None:
        await asyncio.to_thread(self._admin.change, self._before)


class Restarted:
    """A server that is started by a command, anew for each point. Only what it started is ended."""

    is_restarted = True
    has_adaptive = False

    def __init__(self, template: str, target: Target, say: Callable[[str], None]) -> None:
        """Raises ``CommandError``."""
        self._names = placeholders(template, FILLED_IN)
        self._template, self._target, self._say = template, target, say
        self._process: Process | None = None
        self._knobs: Knobs | None = None
        self.has_tokens = "tokens" in self._names
        self.how = f"started anew for each point: {template}"

    @property
    def has_batch(self) -> bool:
        return "batch" in self._names

    def words(self, knobs: Knobs) -> list[str]:
        values = {"batch": knobs.batch, "tokens": knobs.tokens, "port": self._target.port}
        return [word.format_map(values) for word in shlex.split(self._template)]

    async def use(self, knobs: Knobs) -> None:
        """Until it is ready with them. Raises ``StartError``, or ``TargetError`` if its place is taken."""
        same = Knobs(batch=knobs.batch if self.has_batch else None, tokens=knobs.tokens if self.has_tokens else None)
        if self._process is not None and self._process.is_running and same == self._knobs:
            return
        await self.close()
        if await asyncio.to_thread(_answers, self._target):
            raise TargetError(f"something answers at {self._target.url} already: end it, --command starts its own")
        words = self.words(knobs)
        self._say(f"starting {shlex.join(words)}")
        process = Process(words, self._say)
        await process.start(self._target)
        self._process, self._knobs = process, same

    async def use_adaptive(self) -> None:
        return

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.stop()


class Interrupted(Exception):
    """Somebody wants an end while a server is being set."""


async def interruptible(setting: Awaitable[None], stop: asyncio.Event) -> None:
    """Wait for ``setting`` or for ``stop``: then it is cancelled, and ``Interrupted`` raised."""
    work = asyncio.ensure_future(setting)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Interrupted("interrupted")
        work.result()
    finally:
        for each in (work, stopped):
            each.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)


def _answers(target: Target) -> bool:
    try:
        return is_ready(target)
    except TargetError:
        return True
    except http.client.HTTPException:
        return True
