"""What an animal is, eats, says and looks like."""

from __future__ import annotations

from tools.demo_world.exchange import Exchange, Maker, Speaker, capital, with_article
from tools.demo_world.world import Animal

DETAILS = ("food", "food", "home", "home", "sound", "baby", "colour", "legs")
"""What may be asked, each entry equally likely; names of ``asks.toml``."""

KNOWN_BABIES = frozenset((
    "puppy", "kitten", "foal", "piglet", "lamb", "duckling", "tadpole", "caterpillar", "joey", "cygnet", "owlet",
    "fawn",
))  # fmt: skip
"""Young animals that belong to one kind only, but for the foal, which belongs to three."""


class Animals(Speaker):
    """Descriptions, single questions, comparisons and young animals."""

    asks_table = "animals"

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [(9, self.about), (11, self.detail), (2, self.compare), (2, self.whose_baby)]

    def about(self) -> Exchange:
        """A description, then questions about the same animal."""
        animal = self.voice.pick(self.world.animals)
        user = self.request("about", plural=animal.plural, name=animal.name, one=with_article(animal.name))
        return Exchange(user, self._description(animal), follow=lambda: self._next_about(animal))

    def _description(self, animal: Animal) -> str:
        facts = list(animal.facts)
        self.voice.rng.shuffle(facts)
        plural = capital(animal.plural)
        opening = self.voice.pick((
            f"{plural} live {animal.home}.",
            f"{plural} are {animal.colour}, and they live {animal.home}.",
            f"{plural} live {animal.home} and eat {animal.food}.",
            f"{plural} are {animal.colour}. They eat {animal.food}.",
        ))  # fmt: skip
        return " ".join([opening, *facts[: self.voice.pick((1, 2, 2, 3))]])

    def _next_about(self, animal: Animal) -> Exchange:
        if self.voice.chance(0.2):
            user = self.request("more", it="them")
            return Exchange(user, self.voice.pick(animal.facts), follow=lambda: self._next_about(animal))
        return self._detail_of(animal, pronoun=True)

    def detail(self) -> Exchange:
        """One question about one animal, then others about the same one."""
        return self._detail_of(self.voice.pick(self.world.animals), pronoun=False)

    def _detail_of(self, animal: Animal, *, pronoun: bool) -> Exchange:
        """With ``pronoun`` the question does not name the animal, as after a description."""
        detail = self.voice.pick(DETAILS)
        if pronoun:
            names = {"many": "they", "one": "it", "own": "its", "them": "them"}
        else:
            one = self.voice.pick((with_article(animal.name), f"the {animal.name}"))
            names = {"many": animal.plural, "one": one, "own": f"{with_article(animal.name)}'s", "them": animal.plural}
        return Exchange(
            self.question(detail, name=animal.name, **names),
            _answer(detail, animal),
            follow=lambda: self._detail_of(animal, pronoun=True),
        )

    def whose_baby(self) -> Exchange:
        """From the young one to the animal."""
        animal = self.voice.pick([animal for animal in self.world.animals if animal.baby in KNOWN_BABIES])
        owner = "a horse, a zebra or a donkey" if animal.baby == "foal" else with_article(animal.name)
        baby = with_article(animal.baby)
        return Exchange(
            self.question("whose_baby", baby=baby), f"{capital(baby)} is a young animal: it grows up to be {owner}."
        )

    def compare(self) -> Exchange:
        """Which of two animals is larger."""
        first, second = self.voice.rng.sample(self.world.animals, 2)
        while first.size == second.size:
            first, second = self.voice.rng.sample(self.world.animals, 2)
        large, small = (first, second) if first.size > second.size else (second, first)
        user = self.question("compare", a=with_article(first.name), b=with_article(second.name))
        return Exchange(user, f"{capital(with_article(large.name))} is larger than {with_article(small.name)}.")


def _answer(detail: str, animal: Animal) -> str:
    many = capital(animal.plural)
    return {
        "food": f"{many} eat {animal.food}.",
        "home": f"{many} live {animal.home}.",
        "sound": f"{many} {animal.sound}.",
        "baby": f"A young {animal.name} is called {with_article(animal.baby)}.",
        "colour": f"{many} are {animal.colour}.",
        "legs": f"{capital(with_article(animal.name))} has {animal.legs}.",
    }[detail]
