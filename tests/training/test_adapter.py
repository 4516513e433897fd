"""Only the adapter names what is private to Lightning."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import lottery

ROOT = Path(lottery.__file__).parent
LIGHTNINGS = {"trainer", "fit_loop", "epoch_loop", "strategy", "lightning_module"}


def private(source: str) -> Iterator[str]:
    """Underscore attributes of Trainers, their loops and strategies, and of modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name in LIGHTNINGS and not node.attr.startswith("__"):
                yield f"{name}.{node.attr}"


def test_what_is_private_is_seen() -> None:
    source = "self.trainer._logger_connector.x; trainer.fit_loop._results"
    assert sorted(private(source)) == ["fit_loop._results", "trainer._logger_connector"]


def test_only_the_adapter_touches_what_is_private_to_lightning() -> None:
    files = [p for p in ROOT.rglob("*.py") if "lightning" not in p.parent.name]
    found = {str(p.relative_to(ROOT)): list(private(p.read_text())) for p in files}
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}
