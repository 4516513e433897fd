"""What an earlier version began goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import begun
import zoo

from lottery import Run


def test_a_run_that_an_earlier_version_began_goes_on_bit_for_bit(tmp_path: Path) -> None:
    shutil.copytree(begun.BEGUN, tmp_path / "begun")
    begun.fit(tmp_path / "begun")
    # what seed a run takes by default may be another by now
    begun.fit(tmp_path / "whole", seed=Run(begun.BEGUN).info.seed)
    left, right = (zoo.contents(tmp_path / name) for name in ("begun", "whole"))
    assert left["rounds"] == [0, 1, 2]
    zoo.assert_equal(left, right)


def test_its_numbers_are_never_rounded(tmp_path: Path) -> None:
    """So that every machine and library computes the same."""
    begun.fit(tmp_path)
    for weight in zoo.contents(tmp_path)["round 2"]["trained"].values():
        assert (weight * 2**14 == (weight * 2**14).round()).all()
        assert weight.abs().max() < 4
