"""Parameters of the OpenAI API, and of servers like it, that are known here but not offered.

Each is listed with the values that ask for nothing beyond what this server does: those are accepted, since popular
clients send them by default. Any other value is refused, because ignoring it would give an answer to another question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headway.serve.bounds import RequestLimits
from headway.serve.fields import Fields, bad_value, short_text, unsupported

Harmless = Mapping[str, tuple[Any, ...]]

_EVERYWHERE: Harmless = {
    "store": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "include_stop_str_in_output": (False,),
    "use_beam_search": (False,),
    "length_penalty": (1, 1.0),
    "early_stopping": (False,),
    "truncate_prompt_tokens": (),
    "prompt_logprobs": (),
    "priority": (0,),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "chat_template": (),
    "chat_template_kwargs": (),
}

CHAT: Harmless = {
    **_EVERYWHERE,
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "moderation": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "add_special_tokens": (False,),
    "continue_final_message": (False,),
    "echo": (False,),
    "documents": ([],),
}

COMPLETION: Harmless = {
    **_EVERYWHERE,
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
}

TOKENIZE: Harmless = {
    "return_token_strs": (False,),
    "continue_final_message": (False,),
    "tools": ([],),
    "chat_template": (),
    "chat_template_kwargs": (),
}


def refuse_unsupported(fields: Fields, known: Harmless) -> None:
    """Read every parameter in ``known``; raise ``ApiError`` (400) for a value that is not harmless."""
    for name, harmless in known.items():
        value = fields.take(name)
        if value is not None and not any(type(value) is type(each) and value == each for each in harmless):
            raise unsupported(fields.at(name), _remedy(harmless))


def read_hints(fields: Fields, limits: RequestLimits) -> None:
    """Check the parameters that concern the operator's records alone; they change no answer here."""
    for name in ("safety_identifier", "prompt_cache_key"):
        fields.text(name, limits.name_length)
    metadata = fields.object("metadata")
    if metadata is None:
        return
    if len(metadata) > limits.metadata:
        raise bad_value(fields.at("metadata"), f"must have at most {limits.metadata} entries, not {len(metadata)}")
    for key, value in metadata.items():
        short_text(value, metadata.at(key), limits.name_length)


def _remedy(harmless: tuple[Any, ...]) -> str:
    if not harmless:
        return "is not supported by this server; leave it out"
    return f"is not supported by this server with this value; leave it out or use {json.dumps(harmless[0])}"
