"""Everything that ``headway serve`` needs in place of a model and the built-in engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headway.models.source import ModelSource, resolve
from headway.serve.text import Text
from headway.sim_engine.answers import Answers
from headway.sim_engine.executor import SimulatedExecutor
from headway.sim_engine.machine import Machine, parse_machine


@dataclass(frozen=True, slots=True)
class SimulatedEngine:
    """``source`` and ``text``: the bundled tokenizer, under the machine's name and with its context."""

    machine: Machine
    source: ModelSource
    text: Text
    executor: SimulatedExecutor

    @classmethod
    def parse(
        cls,
        engine: str,
        *,
        model: str | None = None,
        dtype: str = "auto",
        threads: int | None = None,
        tensor_parallel: int = 1,
        kv_tokens: int | None = None,
        context_tokens: int | None = None,
    ) -> SimulatedEngine:
        """From what the operator said. Raises ValueError, one line, and OSError."""
        machine = parse_machine(engine)
        meaningless = {
            "MODEL": model is not None,
            "--dtype": dtype != "auto",
            "--threads": threads is not None,
            "--tensor-parallel": tensor_parallel != 1,
        }
        if given := [name for name, is_given in meaningless.items() if is_given]:
            raise ValueError(f"{given[0]} means nothing to a modelled machine; leave it out with --engine sim:")
        machine.limit(kv_tokens=kv_tokens, context_tokens=context_tokens)
        bundled = resolve(None)
        config = replace(bundled.config, context_tokens=machine.info.context_tokens)
        source = replace(bundled, name=machine.name, config=config, description=machine.info.description)
        text = Text.load(source)
        return cls(machine, source, text, SimulatedExecutor(machine, Answers(text, machine.seed)))
