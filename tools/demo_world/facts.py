"""Capitals, opposites, colours, greetings in other languages, rhymes, lists and the calendar."""

from __future__ import annotations

from tools.demo_world.exchange import Exchange, Maker, Speaker, capital, joined, numbered

DOUBLE_COUNTRIES = frozenset(("England", "the USA"))
"""Other names of countries that are listed as well."""


class Facts(Speaker):
    """Facts that are asked in one line and answered in one."""

    asks_table = "facts"

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [
            (12, self.capital),
            (3, self.country),
            (2, self.unknown_capital),
            (8, self.opposite),
            (6, self.colour),
            (3, self.hello),
            (4, self.rhyme),
            (9, self.enumeration),
            (9, self.fact),
            (4, self.calendar),
        ]

    def capital(self) -> Exchange:
        """The capital of a country, then perhaps of another."""
        country = self.voice.pick(tuple(self.world.capitals))
        return Exchange(self.question("capital", c=country), self._capital_of(country), follow=self._next_capital)

    def _next_capital(self) -> Exchange:
        country = self.voice.pick(tuple(self.world.capitals))
        user = self.voice.expand("[and|what about|and of|and what about|how about] {c}", c=country)
        return Exchange(user, self._capital_of(country), follow=self._next_capital)

    def _capital_of(self, country: str) -> str:
        city = self.world.capitals[country]
        if self.voice.chance(0.8):
            return f"The capital of {country} is {city}".removesuffix(".") + "."
        return f"{city} is the capital of {country}."

    def country(self) -> Exchange:
        """The country of a capital."""
        country = self.voice.pick([name for name in self.world.capitals if name not in DOUBLE_COUNTRIES])
        city = self.world.capitals[country]
        return Exchange(self.question("country", city=city), f"{city} is the capital of {country}.")

    def unknown_capital(self) -> Exchange:
        """A country that the model does not know."""
        country = self.voice.pick(self.world.unknown_countries)
        answer = self.voice.pick(self.world.outside["capital_declines"])
        return Exchange(self.question("unknown_capital", c=country), answer)

    def opposite(self) -> Exchange:
        """The opposite of a word, then perhaps of another."""
        word = self.voice.pick(tuple(self.world.opposites))
        return Exchange(self.question("opposite", w=word), self._opposite_of(word), follow=self._next_opposite)

    def _next_opposite(self) -> Exchange:
        word = self.voice.pick(tuple(self.world.opposites))
        user = self.voice.expand("[and|and of|what about] {w}", w=word)
        return Exchange(user, self._opposite_of(word), follow=self._next_opposite)

    def _opposite_of(self, word: str) -> str:
        return f"The opposite of {word} is {self.world.opposites[word]}."

    def colour(self) -> Exchange:
        """The colour of a thing, then perhaps of another."""
        thing = self.voice.pick(tuple(self.world.colours))
        return Exchange(self.question("colour", t=thing), self._colour_of(thing), follow=self._next_colour)

    def _next_colour(self) -> Exchange:
        thing = self.voice.pick(tuple(self.world.colours))
        return Exchange(self.voice.expand("[and|what about] {t}", t=thing), self._colour_of(thing))

    def _colour_of(self, thing: str) -> str:
        return f"{capital(thing)} is {self.world.colours[thing]}."

    def hello(self) -> Exchange:
        """How to say hello in another language."""
        language = self.voice.pick(tuple(self.world.hellos))
        answer = f'In {language} you say "{self.world.hellos[language]}".'
        return Exchange(self.question("hello", l=language), answer)

    def rhyme(self) -> Exchange:
        """Words that rhyme."""
        word = self.voice.pick(tuple(self.world.rhymes))
        return Exchange(self.question("rhyme", w=word), f"{capital(word)} rhymes with {self.world.rhymes[word]}.")

    def enumeration(self) -> Exchange:
        """Some things of a kind, in one sentence or as a numbered list, then others of the same kind."""
        kind = self.voice.pick(tuple(self.world.lists))
        number = self.voice.pick((2, 3, 3, 3, 4, 5, 5))
        user = self.request("enumeration", n=self.voice.pick((str(number), self.world.numbers[number])), k=kind)
        things = self.world.lists[kind]
        items = self.voice.rng.sample(things, len(things))
        answer = numbered(items[:number]) if "list" in user else self._sentence(items[:number])
        return Exchange(user, answer, follow=(lambda: self._more_items(items[number:])) if items[number:] else None)

    def _more_items(self, items: list[str]) -> Exchange:
        items = items[: self.voice.pick((1, 2, 2, 3))]
        forms = "[{n} more|give me {n} more|tell me {n} more|name {n} more]"
        user = self.voice.expand(forms, n=self.world.numbers[len(items)])
        return Exchange(user, f"{capital(items[0])}." if len(items) == 1 else self._sentence(items))

    def _sentence(self, items: list[str]) -> str:
        number = self.world.numbers[len(items)]
        return self.voice.pick((f"{capital(joined(items))}.", f"Here are {number}: {joined(items)}."))

    def fact(self) -> Exchange:
        """A fact about the world with its own ways to ask."""
        fact = self.voice.pick(self.world.facts)
        return Exchange(self.wrapped(fact.ask, self.world.questions, {}), self.voice.line(fact.answers))

    def calendar(self) -> Exchange:
        """The day after a day, the month before a month, or the days of a month."""
        unit = self.voice.pick(("day", "month", "length"))
        if unit == "length":
            return self._month_length()
        names = self.world.days if unit == "day" else self.world.months
        at = self.voice.rng.randrange(len(names))
        step, word = self.voice.pick(((1, "after"), (1, "after"), (-1, "before")))
        user = self.question("neighbour", unit=unit, word=word, it=names[at])
        return Exchange(user, f"{names[(at + step) % len(names)]} comes {word} {names[at]}.")

    def _month_length(self) -> Exchange:
        at = self.voice.rng.randrange(12)
        month = self.world.months[at]
        extra = ", and 29 in some years" if month == "February" else ""
        return Exchange(self.question("month_length", m=month), f"{month} has {self.world.month_days[at]} days{extra}.")
