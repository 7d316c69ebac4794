"""Strings exchanges into chats."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import NamedTuple

from tools.demo_world.animals import Animals
from tools.demo_world.exchange import Exchange, Maker, Speaker
from tools.demo_world.explanations import Explanations
from tools.demo_world.facts import Facts
from tools.demo_world.numbers import Numbers
from tools.demo_world.outside import Outside
from tools.demo_world.poems import Poems
from tools.demo_world.small_talk import SmallTalk
from tools.demo_world.stories import Stories
from tools.demo_world.voice import Voice
from tools.demo_world.world import World

EXCHANGES = (1, 1, 1, 2, 2, 3, 4)
"""How many exchanges a chat may have, each entry equally likely."""

FOLLOW_UP = 0.6
"""How likely a chat stays with its subject while there is something to follow up."""


class Message(NamedTuple):
    """One message of a chat: role is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


class Composer:
    """Composes chats and stories; the same seed and the same calls give the same text."""

    def __init__(self, seed: int) -> None:
        world, self._voice = World(), Voice(random.Random(seed))
        topics: tuple[type[Speaker], ...] = (
            Animals,
            Facts,
            Numbers,
            Stories,
            Poems,
            SmallTalk,
            Explanations,
            Outside,
        )
        self._stories = Stories(world, self._voice)
        self._systems = world.systems
        weighted = [entry for topic in topics for entry in topic(world, self._voice).makers()]
        self._makers: list[Maker] = [maker for _, maker in weighted]
        self._weights = list(accumulate(weight for weight, _ in weighted))

    def chat(self) -> list[Message]:
        """A chat: sometimes a system message, then user and assistant in turn, one to four times."""
        messages = [Message("system", self._voice.pick(self._systems))] if self._voice.chance(0.2) else []
        exchange: Exchange | None = None
        for _ in range(self._voice.pick(EXCHANGES)):
            exchange = self._next(exchange)
            user = self._voice.type(exchange.user, typos=exchange.typos, verbatim=exchange.verbatim)
            messages += [Message("user", user), Message("assistant", exchange.answer)]
            if exchange.closing:
                break
        return messages

    def story(self) -> str:
        """A story on its own, without a chat around it."""
        return self._stories.text()

    def chance(self, probability: float) -> bool:
        """True with the given probability, drawn from the same generator as the texts."""
        return self._voice.chance(probability)

    def _next(self, last: Exchange | None) -> Exchange:
        if last is not None and last.follow is not None and self._voice.chance(FOLLOW_UP):
            return last.follow()
        return self._voice.rng.choices(self._makers, cum_weights=self._weights)[0]()
