"""The facts and templates of the small world, read from the TOML files beside this module."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Animal:
    """One animal, with what the model may tell about it."""

    name: str
    plural: str
    size: int
    """From 1 (an ant) to 9 (a whale), for comparing two animals."""
    colour: str
    home: str
    food: str
    sound: str
    baby: str
    legs: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Topic:
    """Something the model can explain: a first answer, and what it adds when asked for more."""

    term: str
    first: tuple[str, ...]
    more: tuple[str, ...]


@dataclass(frozen=True)
class Talk:
    """Small talk: ways to ask, and ways to answer."""

    ask: tuple[str, ...]
    answers: tuple[str, ...]
    weight: int = 1
    name: str = ""
    follows: tuple[str, ...] = ()
    """Names of the talks that may sensibly come next."""
    closing: bool = False
    """True when the talk ends a chat."""


@dataclass(frozen=True)
class StoryParts:
    """What stories are made of."""

    names_she: list[str]
    names_he: list[str]
    kinds: list[str]
    """What a hero may be."""
    kinds_she: list[str]
    kinds_he: list[str]
    hero_adjectives: list[str]
    friend_adjectives: list[str]
    friend_kinds: list[str]
    places: list[str]
    asked_places: list[str]
    """Where a user may ask a story to happen."""
    things: list[str]
    treats: list[str]
    openings: list[str]
    endings: list[str]
    sequels: list[str]
    plots: dict[str, list[list[str]]]
    """Each plot is a row of steps, each step a row of ways to tell it."""


@dataclass(frozen=True)
class PoemParts:
    """What poems are made of, by subject, and jokes."""

    jokes: list[list[str]]
    haiku: dict[str, list[list[str]]]
    """Ways to write each of the three lines."""
    haiku_aliases: dict[str, str]
    """Other subjects, and the one whose lines they take."""
    couplets: dict[str, list[str]]
    poem_aliases: dict[str, str]


def read(name: str) -> dict[str, Any]:
    """The contents of one data file, lists as they are."""
    with (DATA / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


class World:
    """Everything the model can learn, in plain typed attributes; read once, never changed."""

    def __init__(self) -> None:
        facts, explanations, manners = read("facts"), read("explanations"), read("manners")
        self.animals = tuple(Animal(**_frozen(row)) for row in facts["animals"])
        self.capitals: dict[str, str] = facts["capitals"]
        self.unknown_countries: list[str] = facts["unknown_countries"]
        self.opposites: dict[str, str] = facts["opposites"]
        self.colours: dict[str, str] = facts["colours"]
        self.hellos: dict[str, str] = facts["hellos"]
        self.rhymes: dict[str, str] = facts["rhymes"]
        self.lists: dict[str, list[str]] = facts["lists"]
        self.recipes: dict[str, str] = facts["recipes"]
        self.numbers: list[str] = facts["numbers"]
        self.days: list[str] = facts["days"]
        self.months: list[str] = facts["months"]
        self.month_days: list[int] = facts["month_days"]
        self.names: list[str] = facts["names"]
        self.server_topics = tuple(Topic(**_frozen(row)) for row in explanations["server"])
        self.world_topics = tuple(Topic(**_frozen(row)) for row in explanations["world"])
        self.whys = tuple(Talk(**_frozen(row)) for row in explanations["whys"])
        self.facts = tuple(Talk(**_frozen(row)) for row in explanations["facts"])
        self.talks = tuple(Talk(**_frozen(row)) for row in manners["talks"])
        self.systems: list[str] = manners["systems"]
        self.please: list[str] = manners["please"]
        self.questions: list[str] = manners["questions"]
        self.asks: dict[str, dict[str, list[str]]] = read("asks")
        self.stories = StoryParts(**read("stories"))
        self.poems = PoemParts(**read("poems"))
        self.outside: dict[str, list[str]] = read("outside")
