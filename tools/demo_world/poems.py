"""Haiku, rhymed poems and jokes."""

from __future__ import annotations

from tools.demo_world.exchange import Exchange, Maker, Speaker


class Poems(Speaker):
    """Poems on the subjects that are known, and jokes."""

    asks_table = "poems"

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [(9, self.haiku), (9, self.poem), (8, self.joke), (2, self.unknown_subject)]

    def haiku(self) -> Exchange:
        """Three lines about a subject, or about any."""
        poems = self.world.poems
        subject = self.voice.pick((*poems.haiku, *poems.haiku_aliases))
        user = self.request("haiku_about", s=subject)
        if self.voice.chance(0.25):
            user = self.request("haiku")
            subject = self.voice.pick(tuple(poems.haiku))
        return Exchange(user, self._haiku_on(subject), follow=self._next_haiku)

    def _haiku_on(self, subject: str) -> str:
        poems = self.world.poems
        lines = poems.haiku[poems.haiku_aliases.get(subject, subject)]
        return "\n".join(self.voice.pick(line) for line in lines)

    def _next_haiku(self) -> Exchange:
        subject = self.voice.pick(tuple(self.world.poems.haiku))
        user = self.voice.expand("[one about|now one about|and one about|another haiku about] {s}", s=subject)
        return Exchange(user, self._haiku_on(subject), follow=self._next_haiku)

    def poem(self) -> Exchange:
        """Two to four couplets about a subject, or about any."""
        poems = self.world.poems
        subject = self.voice.pick((*poems.couplets, *poems.poem_aliases))
        user = self.request("poem_about", s=subject)
        if self.voice.chance(0.25):
            user = self.request("poem")
            subject = self.voice.pick(tuple(poems.couplets))
        return Exchange(user, self._poem_on(subject), follow=self._next_poem)

    def _poem_on(self, subject: str) -> str:
        poems = self.world.poems
        couplets = poems.couplets[poems.poem_aliases.get(subject, subject)]
        return "\n\n".join(couplets[: self.voice.pick((2, 3, 4, 4))])

    def _next_poem(self) -> Exchange:
        subject = self.voice.pick(tuple(self.world.poems.couplets))
        user = self.voice.expand("[another poem about|now a poem about|and a poem about] {s}", s=subject)
        return Exchange(user, self._poem_on(subject), follow=self._next_poem)

    def unknown_subject(self) -> Exchange:
        """A poem about something that the model never heard of becomes one about something else."""
        subject = self.voice.pick(self.world.outside["odd_words"])
        known = self.voice.pick(tuple(self.world.poems.couplets))
        form, text = self.voice.pick((("poem", self._poem_on), ("haiku", self._haiku_on)))
        if form == "haiku":
            known = self.voice.pick(tuple(self.world.poems.haiku))
        user = self.request("unknown", f=form, s=subject)
        return Exchange(user, f"I do not know that subject, so here is a {form} about {known}.\n\n{text(known)}")

    def joke(self) -> Exchange:
        """A riddle joke, then perhaps another."""
        return Exchange(self.request("joke"), self._joke(), follow=self._next_joke)

    def _next_joke(self) -> Exchange:
        return Exchange(self.request("another_joke"), self._joke(), follow=self._next_joke)

    def _joke(self) -> str:
        return " ".join(self.voice.pick(self.world.poems.jokes))
