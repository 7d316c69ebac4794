"""What all requests share: the driver, the text model, the streams, the limits, and whether we serve at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from headway.policy.plan import ExecutorInfo
from headway.policy.slo import ServiceClasses
from headway.serve.bodies import Bodies
from headway.serve.bounds import RequestLimits
from headway.serve.choices import Detokenizer
from headway.serve.driver import Driver, DriverState
from headway.serve.errors import ApiError, Reason
from headway.serve.in_flight import InFlight
from headway.serve.limits import EdgeLimits
from headway.serve.messages import Message
from headway.serve.streams import Streams
from headway.serve.telemetry import Telemetry


class TextModel(Protocol):
    """What the edge needs of ``serve.text.Text``."""

    @property
    def eos_ids(self) -> tuple[int, ...]: ...
    @property
    def vocab_size(self) -> int: ...
    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...
    def encode_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def token_bytes(self, token: int) -> bytes: ...
    def detokenizer(self, stops: tuple[str, ...], *, continues: bool, min_tokens: int) -> Detokenizer: ...


@dataclass(frozen=True, slots=True)
class ModelCard:
    """How the model is called by clients, and what ``/v1/models`` says of it."""

    name: str
    root: str
    description: str
    created: int


@dataclass(slots=True)
class Service:
    """``text`` is None until it is loaded. ``failure``: why it never will be."""

    card: ModelCard
    driver: Driver
    streams: Streams
    telemetry: Telemetry
    edge_limits: EdgeLimits
    request_limits: RequestLimits
    pool: ThreadPoolExecutor
    classes: ServiceClasses
    """What new requests are promised: replaced as a whole when the operator changes it."""
    preparing: asyncio.Semaphore
    """Admits requests to the pool."""
    clock: Callable[[], float] = time.monotonic
    text: TextModel | None = None
    draining: bool = False
    in_flight: InFlight = field(default_factory=InFlight)
    """Generation requests that have arrived and are not answered yet."""
    bodies: Bodies = field(init=False)
    seeds: Callable[[], int] = field(kw_only=True)
    """Where the seed of a request without one comes from."""

    def __post_init__(self) -> None:
        self.bodies = Bodies(self.edge_limits)

    def not_ready(self) -> ApiError | None:
        """Why the server can't take a new request right now; None if it can and all is well."""
        if self.driver.state is DriverState.RESTARTING:
            return ApiError(Reason.NOT_READY, "The engine was lost and is starting again.")
        return self.not_serving()

    def not_serving(self) -> ApiError | None:
        """Why the server takes no requests; None if it does. While the engine restarts, requests wait in the queue."""
        state = self.driver.state
        if self.draining or state is DriverState.DRAINING:
            return ApiError(Reason.DRAINING, "The server is shutting down and takes no new requests.")
        if state in (DriverState.FAILED, DriverState.STOPPED):
            return ApiError(Reason.STOPPED, "The engine has stopped.")
        if state is DriverState.STARTING or self.text is None:
            return ApiError(Reason.NOT_READY, "The model is still loading.")
        return None

    def require(self) -> tuple[TextModel, ExecutorInfo]:
        """What a request needs. Raises ``ApiError`` (503)."""
        error = self.not_serving()
        if error is not None:
            raise error
        assert self.text is not None
        assert self.driver.info is not None
        return self.text, self.driver.info

    def check_model(self, name: str | None) -> None:
        if name is not None and name != self.card.name:
            raise ApiError(
                Reason.MODEL_NOT_FOUND,
                f"The model {name[:200]!r} does not exist; this server serves {self.card.name!r}.",
                param="model",
            )
