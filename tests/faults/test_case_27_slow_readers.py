"""Case 27: a reader that stops or crawls: bounded buffer, the engine never waits, aborted after the stall limit."""

from __future__ import annotations

import time

import pytest

from headway.policy.events import FinishReason
from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from headway.serve.protocol import LimitedProtocol
from tests.fakes import INFO, ScriptedExecutor
from tests.http_client import CHAT, Connection, chat, fetch
from tests.running_server import running_server

# Megabytes of log-probabilities: they fill the kernel's buffers soon.
FAT = chat(max_tokens=1500, n=8, stream=True, logprobs=True, top_logprobs=20)
SMALL_BUFFER = 4096


def test_case_27_a_reader_that_stops_is_cut_off_and_others_are_not() -> None:
    executor = ScriptedExecutor(step_s=0.001)
    limits = EdgeLimits(write_stall_s=0.3, unsent_bytes=64 << 20)
    with running_server(executor, ServeConfig(edge=limits)) as server:
        with Connection(server.port, receive_buffer=SMALL_BUFFER) as stuck:
            stuck.request("POST", CHAT, FAT)
            assert stuck.read_head()[0] == 200
            other = fetch(server.port, "POST", CHAT, chat(max_tokens=200))
            assert other.json()["usage"]["completion_tokens"] == 200
            server.wait_until(lambda: server.node.http.state.stalled == 1, "the stall limit")
            server.wait_idle()
        assert server.node.telemetry.outcomes[CHAT, "client_closed_request"] == 1


def test_case_27_a_reader_too_far_behind_is_cut_off_at_once() -> None:
    executor = ScriptedExecutor(step_s=0.001)
    limits = EdgeLimits(write_stall_s=60, unsent_bytes=256 * 1024)
    with running_server(executor, ServeConfig(edge=limits)) as server:
        with Connection(server.port, receive_buffer=SMALL_BUFFER) as stuck:
            stuck.request("POST", CHAT, FAT)
            assert stuck.read_head()[0] == 200
            server.wait_until(lambda: server.node.http.state.stalled == 1, "the buffer's limit")
            server.wait_idle()
        assert server.stats().finished[FinishReason.ABORTED] == 8


def test_case_27_a_slow_reader_that_catches_up_gets_everything() -> None:
    executor = ScriptedExecutor()
    with running_server(executor) as server, Connection(server.port, receive_buffer=SMALL_BUFFER) as slow:
        slow.request("POST", CHAT, chat(max_tokens=300, stream=True, logprobs=True, top_logprobs=20))
        server.wait_until(lambda: server.node.driver.idle and bool(executor.plans))  # the engine did not wait
        assert slow.read_head()[0] == 200
        events = list(slow.events())
        assert events[-1] == "[DONE]"
        assert sum('"top_logprobs"' in event for event in events) == 300


def test_case_27_a_reader_that_is_slow_all_the_time_is_not_cut_off() -> None:
    """Being behind for longer than the limit used to count as having stalled, however steadily it read."""
    limits = EdgeLimits(write_stall_s=0.1, write_stall_bytes=1, idle_s=0.2)
    with running_server(config=ServeConfig(edge=limits)) as server:
        with Connection(server.port, receive_buffer=SMALL_BUFFER) as slow:
            slow.request("POST", CHAT, chat(max_tokens=1900, n=4, logprobs=True, top_logprobs=20))
            status, headers = slow.read_head()
            assert status == 200
            [protocol] = server.on_loop(lambda: list(server.node.http.state.connections))
            assert isinstance(protocol, LimitedProtocol)
            left = int(headers["content-length"])
            for _ in range(5):  # it is looked at this often, and is behind all the time
                timer = protocol._stall_timer
                while protocol._stall_timer is timer:
                    left -= len(slow.read(16 * 1024))
                    time.sleep(0.002)  # the fault itself: a slow reader
                assert protocol.flow.write_paused
            assert len(slow.read(left)) == left
        assert server.node.http.state.stalled == 0


@pytest.mark.parametrize("body_tokens", [INFO.context_tokens - 100])
def test_case_27_a_whole_reply_that_nobody_reads_is_dropped(body_tokens: int) -> None:
    limits = EdgeLimits(write_stall_s=0.2)
    with (
        running_server(config=ServeConfig(edge=limits)) as server,
        Connection(server.port, receive_buffer=SMALL_BUFFER) as stuck,
    ):
        stuck.request("POST", CHAT, chat(max_tokens=body_tokens, n=8, logprobs=True, top_logprobs=20))
        server.wait_until(lambda: server.node.http.state.stalled == 1, "the stall limit")
