"""What was found by fuzzing stays refused in a sentence; a few new examples in each run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.readers import READERS, read_all, unpacked

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.zip"))


@pytest.mark.parametrize("kept", CORPUS, ids=lambda path: path.stem)
def test_what_was_once_found_is_refused_in_a_sentence(kept: Path, tmp_path: Path) -> None:
    read_all(READERS[kept.stem.partition("-")[0]], unpacked(kept.read_bytes()), tmp_path / "x")


@pytest.mark.parametrize("name", [name for name in READERS if name != "recipe"])
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_files_of_strangers_are_read_or_refused_in_a_sentence(name: str, data: st.DataObject, tmp_path: Path) -> None:
    read_all(READERS[name], data.draw(READERS[name].files), tmp_path / "x")
