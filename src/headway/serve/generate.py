"""One generation request from its body to its last byte.

Nothing is sent until the first token is there, or the first ping is due: a request that fails early gets a proper
status. After that a failure is an event in the stream, never silence. The client's leaving is noticed at any point,
streaming or not, and ends the engine's work within a step.
"""

from __future__ import annotations

from collections.abc import Callable

from headway.policy.events import Rejected
from headway.serve.asgi import ClientGone, Receive, Scope, Send, read_json_body, send_body
from headway.serve.attainment import judgement
from headway.serve.auth import Tenant
from headway.serve.bodies import Body
from headway.serve.client import Client, in_pool, timeout_s, watching
from headway.serve.errors import ApiError, Reason
from headway.serve.prepare import Call, Prepared
from headway.serve.promise import read_wishes
from headway.serve.protocol import WRITER
from headway.serve.replies import PING
from headway.serve.reply import Reply, Writer
from headway.serve.request_id import new_request_id
from headway.serve.service import Service

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

Prepare = Callable[[Service, Call, bytes], Prepared]


async def generate(
    service: Service, tenant: Tenant, prepare: Prepare, route: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer one request. Raises ``ApiError`` if nothing was sent yet, and ``ClientGone``."""
    outcome = Reason.INTERNAL.value
    client = Client(service.clock() + service.edge_limits.deadline_s)
    try:
        outcome = await _generate(service, tenant, prepare, client, scope, receive, send)
    except ApiError as error:
        outcome = error.reason.value
        raise
    except ClientGone:
        outcome = Reason.CLIENT_CLOSED.value
        raise
    finally:
        service.telemetry.record_outcome(service.clock(), route, outcome, client.reply)


async def _generate(
    service: Service, tenant: Tenant, prepare: Prepare, client: Client, scope: Scope, receive: Receive, send: Send
) -> str:
    """Returns the outcome: a finish reason, or the code of the error that ended the stream."""
    service.require()
    with service.bodies.one() as body:
        await read_json_body(scope, receive, service.bodies, body)
        received_s = service.clock()
        client.deadline_s = received_s + timeout_s(scope, service.edge_limits.deadline_s)
        call = Call(new_request_id(), tenant, received_s, client.deadline_s, read_wishes(scope))
        with service.in_flight.one():
            async with watching(receive, client):
                prepared = await in_pool(service, client, lambda: _submit(service, prepare, call, body, client))
                body.drop()
                return await _answer(service, client, call, prepared, scope, send)


async def _answer(service: Service, client: Client, call: Call, prepared: Prepared, scope: Scope, send: Send) -> str:
    reply = prepared.reply
    try:
        if client.gone:
            raise ClientGone
        error = await (_stream if prepared.stream else _whole)(service, reply, call, scope, send)
    finally:
        if not reply.ended:
            service.streams.leave(reply, "the client left")
    if error is not None:
        return error.reason.value
    now = service.clock()
    service.telemetry.record_success(now, reply)
    if not reply.build.demoted:
        service.driver.judge(*judgement(reply, now))
    return reply.build.choices[0].finish_reason


def _submit(service: Service, prepare: Prepare, call: Call, body: Body, client: Client) -> Prepared:
    """In the thread pool: tokenising takes time, and the driver may be thinking."""
    if client.gone:
        raise ClientGone
    prepared = prepare(service, call, body.data)
    reply = client.reply = prepared.reply
    if client.gone:
        raise ClientGone
    service.streams.open(reply)
    reply.submitted_s = service.clock()
    for index, spec in enumerate(prepared.specs):
        answer = service.driver.submit(spec)
        if isinstance(answer, Rejected):
            service.streams.discard(reply, index)
            raise ApiError.from_rejected(answer)
    if client.gone:  # whoever noticed may have looked before the reply was open
        service.streams.leave(reply, "the client left")
        raise ClientGone
    return prepared


async def _whole(service: Service, reply: Reply, call: Call, scope: Scope, send: Send) -> None:
    while not reply.ended:
        await reply.changed(_left_s(service, call))
        if reply.gone and not reply.ended:
            raise ClientGone
    if reply.error is not None:
        raise reply.error
    await send_body(send, 200, reply.take())


async def _stream(service: Service, reply: Reply, call: Call, scope: Scope, send: Send) -> ApiError | None:
    """Returns the error that ended the stream after its start, if one did."""
    ping_s = service.edge_limits.ping_s
    ping_due_s = service.clock() + ping_s
    while not reply.begun and (wait_s := ping_due_s - service.clock()) > 0.0:
        await reply.changed(min(wait_s, _left_s(service, call)))
    if reply.gone:
        raise ClientGone
    if reply.error is not None:
        raise reply.error
    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
    writer: Writer = scope["extensions"][WRITER]["writer"]
    reply.attach(writer)
    error: ApiError | None = None
    try:
        while not reply.ended:
            writes = reply.writes
            changed = await reply.changed(min(ping_s, _left_s(service, call)))
            if reply.gone and not reply.ended:
                raise ClientGone
            if not changed and reply.writes == writes:
                writer.write(PING)
        error = reply.error
    except ApiError as late:
        error = late
    last = reply.take() + (error.event() if error is not None else b"")
    await send({"type": "http.response.body", "body": last})
    return error


def _left_s(service: Service, call: Call) -> float:
    """How long to wait for the engine, which ends requests at their deadlines by itself unless it is stuck."""
    left_s = call.deadline_s + service.edge_limits.deadline_grace_s - service.clock()
    if left_s <= 0.0:
        raise ApiError(Reason.DEADLINE, "The request's deadline passed, and the engine did not answer.")
    return left_s
