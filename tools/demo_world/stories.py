"""Stories about a hero and a friend, and what happened after."""

from __future__ import annotations

from tools.demo_world.exchange import Exchange, Maker, Speaker, with_article

Cast = dict[str, str]
"""Who and what a story is about: the slots of its templates."""


class Stories(Speaker):
    """A story is an opening, the steps of a plot, and perhaps an ending, all about one cast."""

    asks_table = "stories"

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [(26, self.story), (3, self.unknown_kind)]

    def story(self) -> Exchange:
        """A story as asked for: by kind, name, place, or none of them; then a sequel or another story."""
        parts = self.world.stories
        kind = self.voice.pick(parts.kinds)
        name, place = self._name_for(kind), None
        form = self.voice.rng.random()
        if form < 0.3:
            user = self.request("any")
        elif form < 0.75:
            user = self.request("about", s=with_article(kind) if self.voice.chance(0.9) else kind)
        elif form < 0.9:
            user = self.request("about", s=f"{with_article(kind)} {self.voice.pick(('named', 'called'))} {name}")
        else:
            place = self.voice.pick(parts.asked_places)
            user = self.request("about", s=f"{with_article(kind)} in {place}")
        return self._told(user, self._cast(kind, name, place))

    def unknown_kind(self) -> Exchange:
        """A story about something that the model never heard of becomes a story about something else."""
        kind = self.voice.pick(self.world.stories.kinds)
        user = self.request("about", s=self.voice.pick(self.world.outside["odd_words"]))
        told = self._told(user, self._cast(kind, self._name_for(kind), None))
        opening = self.voice.pick(("I do not know much about that", "That is new to me"))
        answer = f"{opening}, so here is a story about {with_article(kind)}. {told.answer}"
        return Exchange(user, answer, follow=told.follow)

    def text(self) -> str:
        """A whole story about anyone."""
        kind = self.voice.pick(self.world.stories.kinds)
        return self._text(self._cast(kind, self._name_for(kind), None))

    def _name_for(self, kind: str) -> str:
        """A name whose pronoun fits: the names are of two sorts, and a few heroes go with one of them only."""
        parts = self.world.stories
        if kind in parts.kinds_she or (kind not in parts.kinds_he and self.voice.chance(0.5)):
            return self.voice.pick(parts.names_she)
        return self.voice.pick(parts.names_he)

    def _cast(self, kind: str, name: str, place: str | None) -> Cast:
        parts = self.world.stories
        he, him, his = ("she", "her", "her") if name in parts.names_she else ("he", "him", "his")
        names = [*parts.names_she, *parts.names_he]
        return {
            "he": he,
            "him": him,
            "his": his,
            "kind": kind,
            "name": name,
            "adj": self.voice.pick(parts.hero_adjectives),
            "friend": self.voice.pick([other for other in names if other != name]),
            "fkind": self.voice.pick([other for other in parts.friend_kinds if other != kind]),
            "fadj": self.voice.pick(parts.friend_adjectives),
            "place": place or self.voice.pick(parts.places),
            "thing": self.voice.pick(parts.things),
            "treat": self.voice.pick(parts.treats),
        }

    def _told(self, user: str, cast: Cast) -> Exchange:
        return Exchange(user, self._text(cast), follow=lambda: self._next(cast), typos=False)

    def _text(self, cast: Cast) -> str:
        parts = self.world.stories
        plot = self.voice.pick(tuple(parts.plots.values()))
        steps = [self.voice.pick(parts.openings), *(self.voice.pick(step) for step in plot)]
        lines = [self.voice.say(step, **cast) for step in [*steps, self.voice.pick(parts.endings)] if step]
        half = 1 + len(lines) // 2
        return " ".join(lines[:half]) + self.voice.pick((" ", "\n\n")) + " ".join(lines[half:])

    def _next(self, cast: Cast) -> Exchange:
        form = self.voice.rng.random()
        if form < 0.55:
            answer_to = self.request("next")
            return Exchange(answer_to, self.voice.line(self.world.stories.sequels, **cast), follow=self._another)
        if form < 0.75:
            user = self.voice.expand("[who is|who was|tell me about] {friend}", **cast)
            return Exchange(
                user, self.voice.say("{friend} is the {fkind} in the story, and a friend of {name}.", **cast)
            )
        if form < 0.85:
            user = self.voice.pick(self.world.asks["stories"]["hero"])
            return Exchange(user, self.voice.say("The story is about {name}, a(n) {adj} {kind}.", **cast))
        return self._another()

    def _another(self) -> Exchange:
        user = self.request("another")
        kind = self.voice.pick(self.world.stories.kinds)
        return self._told(user, self._cast(kind, self._name_for(kind), None))
