"""One user's message with its answer, and what every topic needs to make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.demo_world.voice import Voice
from tools.demo_world.world import World

WRAPPED = 0.2
"""How often a question comes with words around it, such as 'could you please'."""


@dataclass(frozen=True)
class Exchange:
    """A user's message, the model's answer, and what may sensibly follow."""

    user: str
    answer: str
    follow: Callable[[], Exchange] | None = None
    typos: bool = True
    """False when the answer repeats a part of the question, which must then be spelled right."""
    verbatim: bool = False
    """True when the answer repeats the question word by word, which must then keep its capitals."""
    closing: bool = False
    """True when the exchange ends a chat."""


Maker = Callable[[], Exchange]


class Speaker:
    """A topic: the world, a voice, and the ways to ask from one table of ``asks.toml``."""

    asks_table = ""

    def __init__(self, world: World, voice: Voice) -> None:
        self.world = world
        self.voice = voice
        self._asks: dict[str, list[str]] = world.asks[self.asks_table] if self.asks_table else {}

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        raise NotImplementedError

    def question(self, ask: str, **slots: str) -> str:
        """One of the questions listed under ``ask``, sometimes with words around it."""
        return self.wrapped(self._asks[ask], self.world.questions, slots)

    def request(self, ask: str, **slots: str) -> str:
        """One of the requests listed under ``ask``, sometimes with polite words around it."""
        return self.wrapped(self._asks[ask], self.world.please, slots)

    def wrapped(self, options: Sequence[str], wrappers: list[str], slots: dict[str, str]) -> str:
        """One of the options, sometimes within one of the wrappers."""
        ask = self.voice.expand(self.voice.pick(options), **slots)
        return self.voice.expand(self.voice.pick(wrappers), ask=ask) if self.voice.chance(WRAPPED) else ask


def with_article(noun: str) -> str:
    """``noun`` behind the article that fits."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def capital(text: str) -> str:
    """``text`` with a capital letter in front."""
    return text[0].upper() + text[1:]


def joined(items: list[str]) -> str:
    """``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def numbered(items: list[str]) -> str:
    """The items as a numbered list, one a line."""
    return "\n".join(f"{number}. {capital(item)}" for number, item in enumerate(items, start=1))
