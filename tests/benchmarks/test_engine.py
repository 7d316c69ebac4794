"""The benchmark of the engine, up to the server it starts."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

import pytest

from benchmarks import engine


class Started(Exception):
    pass


def test_it_measures_the_engine_and_not_admission(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ran with the default policy and requests without a tier, that is with promises: at 64 streams those that could
    not be on time were refused, and its throughput was that of what was left."""
    arguments: list[str] = []

    @contextlib.contextmanager
    def server(*given: str) -> Iterator[None]:
        arguments.extend(given)
        raise Started
        yield

    monkeypatch.setattr(engine, "headway_server", server)
    monkeypatch.setattr(engine, "limits", lambda threads: {})
    parser = argparse.ArgumentParser()
    engine.add_arguments(parser)
    with pytest.raises(Started):
        engine.run(parser.parse_args(["--model", "random:tiny"]))
    assert arguments[arguments.index("--policy") + 1] == "static"
