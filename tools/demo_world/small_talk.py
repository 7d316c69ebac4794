"""Greetings, thanks, names, and questions about the model itself."""

from __future__ import annotations

from functools import partial

from tools.demo_world.exchange import Exchange, Maker, Speaker, capital
from tools.demo_world.voice import Voice
from tools.demo_world.world import Talk, World


class SmallTalk(Speaker):
    """The talks of ``manners.toml``, and the user's name."""

    asks_table = "talks"

    def __init__(self, world: World, voice: Voice) -> None:
        super().__init__(world, voice)
        parts, outside = world.stories, world.outside
        self._words = [*parts.kinds, *parts.names_she, *parts.names_he, *outside["odd_words"], *world.opposites]
        self._words += [*world.capitals, *world.names, *world.numbers]

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [
            *((talk.weight, partial(self.talk, talk)) for talk in self.world.talks),
            (5, self.name),
            (30, self.echo),
        ]

    def talk(self, talk: Talk) -> Exchange:
        """One talk, and one of those that may follow it."""
        slots = {}
        if "{" in "".join(talk.answers):
            fact = self.voice.pick(self.voice.pick(self.world.animals).facts)
            slots["fact"] = fact[0].lower() + fact[1:].removesuffix(".") + "?"
            slots["idea"] = self.voice.pick(self.world.lists["things to do on a rainy day"])
        following = [other for other in self.world.talks if other.name in talk.follows]
        follow = (lambda: self.talk(self.voice.pick(following))) if following else None
        answer = self.voice.line(talk.answers, **slots)
        return Exchange(self.voice.expand(self.voice.pick(talk.ask)), answer, follow=follow, closing=talk.closing)

    def echo(self) -> Exchange:
        """Words to say back: of little use in itself, it teaches the model to look at what was asked."""
        words = [self.voice.pick(self._words) for _ in range(self.voice.rng.randint(1, 8))]
        said = self.voice.pick((" ", " ", ", ", " and ")).join(words)
        return Exchange(self.question("echo", w=said), f"{capital(said)}.", typos=False, verbatim=True)

    def name(self) -> Exchange:
        """The user's name, which the next question may ask for."""
        name = self.voice.pick(self.world.names)
        forms = "[|hello, |hi, |hi! ][my name is {n}|i am {n}|i'm {n}|call me {n}|this is {n}]"
        user = self.voice.expand(forms, n=name)
        answers = "[Hello|Hi], {n}! [It is nice to meet you.|How can I help you?|What shall we talk about?]"
        return Exchange(user, self.voice.say(answers, n=name), follow=lambda: self._recall(name), typos=False)

    def _recall(self, name: str) -> Exchange:
        user = self.question("recall_name")
        return Exchange(user, self.voice.say("[Your name is|You are|You told me that your name is] {n}.", n=name))
