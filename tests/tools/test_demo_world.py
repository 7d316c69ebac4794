"""The text that the demo model learns from: deterministic, well formed, and true where it can be checked."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

from tools.demo_world import Composer, Message
from tools.demo_world.numbers import Numbers
from tools.demo_world.voice import Voice
from tools.demo_world.world import World

CHATS = 4000


@pytest.fixture(scope="module")
def chats() -> list[list[Message]]:
    composer = Composer(7)
    return [composer.chat() for _ in range(CHATS)]


def answers_to(chats: list[list[Message]], pattern: str) -> list[tuple[re.Match[str], str]]:
    """The matches of ``pattern`` in the users' messages, with the answers that follow."""
    found = []
    for chat in chats:
        for message, answer in pairwise(chat):
            match = re.fullmatch(pattern, message.content, re.IGNORECASE) if message.role == "user" else None
            if match:
                found.append((match, answer.content))
    return found


def test_same_seed_same_text() -> None:
    first, second, other = Composer(3), Composer(3), Composer(4)
    chats = [first.chat() for _ in range(200)]
    assert chats == [second.chat() for _ in range(200)]
    assert first.story() == second.story()
    assert chats != [other.chat() for _ in range(200)]


def test_roles_alternate_after_an_optional_system_message(chats: list[list[Message]]) -> None:
    for chat in chats:
        roles = [message.role for message in chat if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 2 <= len(roles) <= 8
        assert all(message.role != "system" for message in chat[1:])
    assert any(chat[0].role == "system" for chat in chats)


def test_no_template_is_left_in_the_text(chats: list[list[Message]]) -> None:
    for message in (message for chat in chats for message in chat):
        assert message.content == message.content.strip() != ""
        assert not re.search(r"[\[\]{}]|\||\(n\)|<", message.content), message


def test_answers_are_tidy_sentences(chats: list[list[Message]]) -> None:
    for message in (message for chat in chats for message in chat if message.role == "assistant"):
        assert re.match(r"[A-Z0-9\"]", message.content), message
        untidy = re.search(
            r"  | [,.!?]|[?!][.,]|(?<!\.)\.\.|\b[Aa] [aeio]\w|\b[Aa]n [bcdfgjklmnpqrstvwxyz]", message.content
        )
        assert untidy is None, (untidy, message)


def test_sums_are_right() -> None:
    numbers = Numbers(World(), Voice(random.Random(5)))
    checked = 0
    for exchange in (numbers.sum() for _ in range(500)):
        match = re.search(r"(\d+) ?([-+]) ?(\d+)", exchange.user)
        if match is None:
            continue
        a, b, answer = int(match[1]), int(match[3]), exchange.answer
        checked += 1
        assert answer.endswith(f" is {a + b if match[2] == '+' else a - b}."), (match[0], answer)
    assert checked > 200


def test_a_name_is_remembered(chats: list[list[Message]]) -> None:
    recalled = 0
    for chat in chats:
        for at, message in enumerate(chat[:-1]):
            if message.role == "user" and re.search(r"what('s| is) my name", message.content, re.IGNORECASE):
                name = re.findall(r"([A-Z]\w+)\.$", chat[at + 1].content)[0]
                assert any(name.lower() in earlier.content.lower() for earlier in chat[:at])
                recalled += 1
    assert recalled > 0


def test_stories_keep_to_the_hero_that_was_asked_for(chats: list[list[Message]]) -> None:
    stories = answers_to(chats, r"tell me a story about an? (\w+) (?:named|called) (\w+)[.!]?")
    assert stories
    for match, answer in stories:
        assert match[1].lower() in answer.lower()
        assert match[2].lower() in answer.lower()


def test_it_says_what_it_is(chats: list[list[Message]]) -> None:
    answers = answers_to(chats, r"who are you\??\??")
    assert answers
    assert all("headway" in answer.lower() for _, answer in answers)


def test_templates() -> None:
    voice = Voice(random.Random(1))
    assert voice.say("a(n) {thing} and a(n) pear", thing="apple") == "An apple and a pear"
    assert voice.say("[one|one] . two") == "One. Two"
    assert {voice.expand("[a|[b|c]]") for _ in range(100)} == {"a", "b", "c"}


def test_typing_keeps_figures() -> None:
    voice = Voice(random.Random(2))
    assert all("17 + 3" in voice.type("what is 17 + 3", typos=True) for _ in range(500))
