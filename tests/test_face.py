"""What is reached at the top."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import lottery


@pytest.mark.parametrize("name", lottery.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lottery, name) is not None


@pytest.mark.parametrize(("name", "home"), [("scores", "pruning.scores"), ("controls", "studies.controls")])
def test_a_room_is_one_module_however_it_is_imported(name: str, home: str) -> None:
    found = importlib.import_module(f"lottery.{name}")
    assert found is getattr(lottery, name)
    assert found is importlib.import_module(f"lottery.{home}")
    assert found.__spec__ is not None and found.__spec__.name == f"lottery.{home}"


def test_what_lies_in_a_room_is_not_imported_twice() -> None:
    code = (
        "from lottery.scores.context import Context as one\n"
        "from lottery.pruning.scores.context import Context as other\n"
        "assert one is other"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match="'Tickets'; it has .*Ticket"):
        lottery.Tickets  # noqa: B018
