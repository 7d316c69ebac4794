"""Counting and small sums."""

from __future__ import annotations

from tools.demo_world.exchange import Exchange, Maker, Speaker

MAX_SUM = 20
MAX_FACTOR = 5
SIGNS = {"+": "plus", "-": "minus", "*": "times"}


class Numbers(Speaker):
    """Sums and differences up to twenty, products up to ten times five, counting and comparing."""

    asks_table = "numbers"

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [(14, self.sum), (4, self.times), (7, self.count), (3, self.larger), (2, self.after)]

    def sum(self) -> Exchange:
        """A sum or a difference, then perhaps another."""
        written, answer = self._plus() if self.voice.chance(0.6) else self._minus()
        return Exchange(self._ask(written), answer, follow=self._next_sum)

    def _next_sum(self) -> Exchange:
        written, answer = self._plus() if self.voice.chance(0.6) else self._minus()
        user = self.voice.expand("[and|what about|now|and what is] {s}", s=written)
        return Exchange(user, answer, follow=self._next_sum)

    def _plus(self) -> tuple[str, str]:
        total = self.voice.rng.randint(2, MAX_SUM)
        a = self.voice.rng.randint(0, total)
        return self._written(a, "+", total - a), f"{a} plus {total - a} is {total}."

    def _minus(self) -> tuple[str, str]:
        a = self.voice.rng.randint(1, MAX_SUM)
        b = self.voice.rng.randint(0, a)
        return self._written(a, "-", b), f"{a} minus {b} is {a - b}."

    def _written(self, a: int, sign: str, b: int) -> str:
        word, numbers = SIGNS[sign], self.world.numbers
        figures = (f"{a} {sign} {b}", f"{a}{sign}{b}", f"{a} {word} {b}", f"{a} {sign} {b}")
        return self.voice.pick((*figures, f"{numbers[a]} {word} {numbers[b]}"))

    def _ask(self, written: str) -> str:
        return self.question("plus" if "+" in written or "plus" in written else "sum", s=written)

    def times(self) -> Exchange:
        """The small table of products."""
        a, b = self.voice.rng.randint(0, 10), self.voice.rng.randint(0, MAX_FACTOR)
        a, b = (a, b) if self.voice.chance(0.5) else (b, a)
        return Exchange(self._ask(self._written(a, "*", b)), f"{a} times {b} is {a * b}.", follow=self._next_sum)

    def count(self) -> Exchange:
        """Counting up or down, in figures or in words."""
        low, high = sorted(self.voice.rng.sample(range(1, MAX_SUM + 1), 2))
        low = 1 if self.voice.chance(0.6) else low
        if self.voice.chance(0.75):
            numbers = list(range(low, high + 1))
            ask = "count_up" if low == 1 else "count_up_from"
        else:
            numbers = list(range(high, low - 1, -1))
            ask = "count_down" if low == 1 else "count_down_to"
        user = self.request(ask, high=str(high), low=str(low))
        if self.voice.chance(0.15):
            words = ", ".join(self.world.numbers[number] for number in numbers)
            return Exchange(f"{user} in words", f"{words.capitalize()}.")
        return Exchange(user, f"{', '.join(map(str, numbers))}.")

    def larger(self) -> Exchange:
        """The larger or smaller of two numbers."""
        a, b = self.voice.rng.sample(range(MAX_SUM + 1), 2)
        word = self.voice.pick(("larger", "bigger", "smaller"))
        chosen, other = (min(a, b), max(a, b)) if word == "smaller" else (max(a, b), min(a, b))
        return Exchange(self.question("larger", word=word, a=str(a), b=str(b)), f"{chosen} is {word} than {other}.")

    def after(self) -> Exchange:
        """The next number."""
        number = self.voice.rng.randint(0, MAX_SUM - 1)
        return Exchange(self.question("after", n=str(number)), f"{number + 1} comes after {number}.")
