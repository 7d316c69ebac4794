"""What words mean, why things are so, and how to cook some dishes."""

from __future__ import annotations

from tools.demo_world.exchange import Exchange, Maker, Speaker
from tools.demo_world.world import Topic


class Explanations(Speaker):
    """Explanations with something to add, reasons, and recipes."""

    asks_table = "talks"

    def makers(self) -> list[tuple[int, Maker]]:
        """The exchanges of this topic with their weights."""
        return [(14, self.server_topic), (12, self.world_topic), (8, self.why), (6, self.recipe)]

    def server_topic(self) -> Exchange:
        """A word from the world of model servers."""
        return self._explained(self.voice.pick(self.world.server_topics))

    def world_topic(self) -> Exchange:
        """A word from the wide world."""
        return self._explained(self.voice.pick(self.world.world_topics))

    def _explained(self, topic: Topic) -> Exchange:
        bare = topic.term.removeprefix("a ").removeprefix("an ").removeprefix("the ")
        user = self.question("topic", t=topic.term, b=bare)
        return Exchange(user, self.voice.line(topic.first), follow=lambda: self._more(topic))

    def _more(self, topic: Topic) -> Exchange:
        return Exchange(self.request("more"), self.voice.line(topic.more))

    def why(self) -> Exchange:
        """Why something is so; the first way to ask is a statement, the others are questions."""
        talk = self.voice.pick(self.world.whys)
        statement, *questions = talk.ask
        asks = [f"{start} {statement}" for start in ("explain why", "tell me why", "do you know why")]
        asks += [f"why {question}" for question in questions for _ in range(4)]
        return Exchange(self.wrapped(asks, self.world.questions, {}), self.voice.line(talk.answers))

    def recipe(self) -> Exchange:
        """How to cook a dish, as a numbered list."""
        dish = self.voice.pick(tuple(self.world.recipes))
        return Exchange(self.question("recipe", d=dish), self.world.recipes[dish])
