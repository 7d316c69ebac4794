"""From a call to the body of a request."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headway.bench.call import Call
from headway.bench.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a server takes beside what all do. A strict one answers 400 to a field that it doesn't know.

    ``has_usage``: ``stream_options.include_usage``, without which tokens can't be checked. ``has_continuous_usage``:
    usage in every event, without which events of several tokens can't be told apart. ``has_exact_output``:
    ``ignore_eos`` and ``min_tokens``, without which replies are as long as the model likes.
    """

    is_streaming: bool = True
    has_usage: bool = True
    has_continuous_usage: bool = True
    has_exact_output: bool = True


PLAIN = Dialect(has_usage=False, has_continuous_usage=False, has_exact_output=False)


def body_of(call: Call, target: Target, dialect: Dialect) -> dict[str, object]:
    """Raises ValueError if the API can't take such a call."""
    body: dict[str, object] = {"model": target.model} if target.model else {}
    if target.api == "chat":
        body["messages"] = _messages(call)
    elif call.messages:
        raise ValueError("messages are for the chat API; completions take a prompt")
    else:
        body["prompt"] = call.prompt
    body["max_tokens"] = call.max_tokens
    if dialect.is_streaming:
        body["stream"] = True
        if dialect.has_usage:
            options = {"include_usage": True}
            if dialect.has_continuous_usage:
                options["continuous_usage_stats"] = True
            body["stream_options"] = options
    if call.exact_output and dialect.has_exact_output:
        body["ignore_eos"] = True
        body["min_tokens"] = call.max_tokens
    if call.tier is not None:
        body["service_tier"] = call.tier
    body.update(call.extra)
    return body


def next_call(call: Call, answer: str, answer_tokens: int) -> Call:
    """The next turn of a conversation, after the server's ``answer``."""
    turn, *later = call.turns
    following = replace(
        call,
        prompt_tokens=call.prompt_tokens + answer_tokens + turn.tokens,
        max_tokens=turn.max_tokens,
        turns=tuple(later),
    )
    if isinstance(call.prompt, str) and call.prompt and not call.messages:
        messages: tuple[dict[str, object], ...] = ({"role": "user", "content": call.prompt},)
    else:
        messages = tuple(dict(each) for each in call.messages)
    said = ({"role": "assistant", "content": answer}, {"role": "user", "content": turn.text})
    return replace(following, prompt="", messages=(*messages, *said))


def _messages(call: Call) -> object:
    if call.messages:
        return call.messages
    if not isinstance(call.prompt, str):
        raise ValueError("token ids are for the completions API; chat takes text")
    return ({"role": "user", "content": call.prompt},)
