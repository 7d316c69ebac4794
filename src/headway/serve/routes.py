"""What the API's listener serves: one table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from headway import __version__
from headway.serve.asgi import Receive, Scope, Send, read_json_body, send_body
from headway.serve.auth import Tenant
from headway.serve.client import Client, in_pool, timeout_s, watching
from headway.serve.exposition import CONTENT_TYPE, exposition
from headway.serve.generate import generate
from headway.serve.options import check_prompt
from headway.serve.prepare import prepare_chat, prepare_completion
from headway.serve.replies import encode
from headway.serve.routing import Handler, Table
from headway.serve.service import Service
from headway.serve.state import state
from headway.serve.wire import parse_detokenize, parse_tokenize

MODEL_PREFIX = "/v1/models/"
MODEL_ROUTE = "/v1/models/{id}"


async def _live(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    await send_body(send, 200, b'{"status":"live"}')


async def _ready(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    error = service.not_ready()
    if error is not None:
        raise error
    await send_body(send, 200, b'{"status":"ready"}')


async def _version(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    await send_body(send, 200, encode({"version": __version__}))


async def _metrics(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    # In a thread: the driver may be thinking, and asking it for its numbers waits for that.
    body = await asyncio.to_thread(exposition, service)
    await send_body(send, 200, body, content_type=CONTENT_TYPE)


async def _status(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    await send_body(send, 200, encode(await asyncio.to_thread(state, service)))


async def _models(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    await send_body(send, 200, encode({"object": "list", "data": [_card(service)]}))


async def _model(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    card = _card(service)
    service.check_model(scope["path"].removeprefix(MODEL_PREFIX))
    await send_body(send, 200, encode(card))


def _card(service: Service) -> dict[str, Any]:
    _, info = service.require()
    card = service.card
    return {
        "id": card.name,
        "object": "model",
        "created": card.created,
        "owned_by": "headway",
        "root": card.root,
        "max_model_len": info.context_tokens,
        "description": card.description,
    }


async def _tokenize(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    await _compute(_tokenize_body, service, scope, receive, send)


async def _detokenize(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    await _compute(_detokenize_body, service, scope, receive, send)


async def _compute(
    work: Callable[[Service, bytes], bytes], service: Service, scope: Scope, receive: Receive, send: Send
) -> None:
    service.require()
    with service.bodies.one() as body:
        await read_json_body(scope, receive, service.bodies, body)
        client = Client(service.clock() + timeout_s(scope, service.edge_limits.deadline_s))
        async with watching(receive, client):
            reply = await in_pool(service, client, lambda: work(service, body.data))
    await send_body(send, 200, reply)


def _tokenize_body(service: Service, body: bytes) -> bytes:
    text, info = service.require()
    request = parse_tokenize(body, service.request_limits)
    service.check_model(request.model)
    if request.prompt is not None:
        tokens = text.encode(request.prompt, add_special_tokens=request.add_special_tokens)
    else:
        assert request.messages is not None
        tokens = text.encode_chat(request.messages, add_generation_prompt=request.add_generation_prompt)
    return encode({"tokens": tokens, "count": len(tokens), "max_model_len": info.context_tokens})


def _detokenize_body(service: Service, body: bytes) -> bytes:
    text, _ = service.require()
    request = parse_detokenize(body, service.request_limits)
    service.check_model(request.model)
    check_prompt(request.tokens, text.vocab_size, "tokens")
    return encode({"prompt": text.decode(request.tokens)})


def _generation(route: str) -> Handler:
    prepare = {"/v1/chat/completions": prepare_chat, "/v1/completions": prepare_completion}[route]

    async def handle(service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
        await generate(service, tenant, prepare, route, scope, receive, send)

    return handle


ROUTES: Table = {
    "/v1/models": {"GET": _models},
    MODEL_ROUTE: {"GET": _model},
    "/v1/chat/completions": {"POST": _generation("/v1/chat/completions")},
    "/v1/completions": {"POST": _generation("/v1/completions")},
    "/tokenize": {"POST": _tokenize},
    "/detokenize": {"POST": _detokenize},
    "/health": {"GET": _ready},
    "/health/live": {"GET": _live},
    "/health/ready": {"GET": _ready},
    "/ping": {"GET": _ready},
    "/version": {"GET": _version},
    "/metrics": {"GET": _metrics},
    "/status": {"GET": _status},
}
