"""Requests that lie outside of the small world, which the model declines."""

from __future__ import annotations

from tools.demo_world.exchange import Exchange, Maker, Speaker
from tools.demo_world.numbers import MAX_SUM

CODE_REQUESTS = 3
"""How many of the outside requests, from the first, ask for code."""

DEEDS = ("play", "open", "send", "set", "call", "book", "order", "turn", "draw", "show", "paint")
"""How requests begin that ask for more than text."""


class Outside(Speaker):
    """Knowledge, code, deeds, large sums and dishes that the model does not have."""

    asks_table = "numbers"

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [(26, self.outside), (5, self.now), (5, self.large_sum), (3, self.unknown_recipe)]

    def outside(self) -> Exchange:
        """A request for something else: declined in the way that fits."""
        outside = self.world.outside
        at = self.voice.rng.randrange(len(outside["outside_requests"]))
        user = self.voice.expand(outside["outside_requests"][at], **self._slots())
        kind = "declines"
        if at < CODE_REQUESTS:
            kind = "code_declines"
        elif user.startswith(DEEDS):
            kind = "able_declines"
        return Exchange(user, self.voice.line(outside[kind]))

    def _slots(self) -> dict[str, str]:
        outside, pick = self.world.outside, self.voice.pick
        odd = pick(outside["odd_words"]) if self.voice.chance(0.6) else self._invented()
        return {
            "person": pick(outside["people"]),
            "company": pick(outside["companies"]),
            "year": str(self.voice.rng.randint(1500, 2030)),
            "big": str(self.voice.rng.randint(100, 99999)),
            "small": str(self.voice.rng.randint(2, 40)),
            "thing": pick(outside["odd_words"]),
            "country": pick((*self.world.capitals, *self.world.unknown_countries)),
            "city": pick(tuple(self.world.capitals.values())),
            "odd": odd,
        }

    def _invented(self) -> str:
        return "".join(self.voice.pick(self.world.outside["syllables"]) for _ in range(self.voice.rng.randint(2, 4)))

    def now(self) -> Exchange:
        """A question about the time, the day or the place of the user."""
        user = self.voice.expand(self.voice.pick(self.world.outside["now_requests"]), **self._slots())
        return Exchange(user, self.voice.line(self.world.outside["now_declines"]))

    def large_sum(self) -> Exchange:
        """A sum with numbers that are too large."""
        a, b = self._large(), self._large()
        written = self.voice.expand(f"{a}[+|-|*|/| + | - | * | / | plus | minus | times | divided by ]{b}")
        return Exchange(self.question("large_sum", s=written), self.voice.line(self.world.outside["sum_declines"]))

    def _large(self) -> int:
        rng = self.voice.rng
        return rng.choice((rng.randint(MAX_SUM + 1, 99), rng.randint(100, 99999)))

    def unknown_recipe(self) -> Exchange:
        """A recipe that the model does not know."""
        dish = self.voice.pick(self.world.outside["unknown_dishes"])
        user = self.wrapped(self.world.asks["talks"]["unknown_recipe"], self.world.questions, {"d": dish})
        return Exchange(user, self.voice.pick(self.world.outside["recipe_declines"]))
