"""The policy decides and does nothing else: no clock, no chance, no world outside its arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import headway.policy

FILES = sorted(Path(headway.policy.__file__).parent.rglob("*.py"))
ALLOWED = {
    "__future__",
    "array",
    "bisect",
    "collections",
    "dataclasses",
    "functools",
    "enum",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "typing",
}
FORBIDDEN_NAMES = {"open", "print", "input", "exec", "eval", "hash", "id", "globals", "__import__", "breakpoint"}
"""``hash`` and ``id`` differ from process to process, so nothing may follow from them."""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_policy_file_imports_a_short_list_of_pure_modules(path: Path) -> None:
    for module in imported(ast.parse(path.read_text())):
        assert module.split(".")[0] in ALLOWED or module.startswith("headway.policy."), module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_policy_file_uses_nothing_that_depends_on_the_process(path: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not names & FORBIDDEN_NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_policy_file_keeps_no_state_of_its_own(path: Path) -> None:
    """At the top of a module there are constants, types and functions: nothing that can change."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            assert not isinstance(node.value, ast.List | ast.Set | ast.ListComp | ast.SetComp), ast.unparse(node)
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Global)]
