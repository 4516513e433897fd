"""Other people's modules, optimizers, callbacks, loaders and settings, against the five laws."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from conformance.cases import Case, cover, rows
from conformance.laws import outcome
from conformance.page import PAGE, page

EIGHTH = 8  # of the cases are tried in every run


def tried() -> list[object]:
    start, stop = map(int, os.environ.get("CONFORMANCE_CASES", "0:8").split(":"))
    cases = [*rows(), *itertools.islice(cover(), start, stop)]
    return [
        pytest.param(case, id=str(case), marks=() if i % EIGHTH == 0 else pytest.mark.slow)
        for i, case in enumerate(cases)
    ]


@pytest.mark.parametrize("case", tried())
def test_the_laws_hold_or_the_fit_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    if case.missing is not None:
        pytest.skip(f"the package {case.missing} is not installed")
    found = outcome(case, tmp_path)
    refused = next((v.refused for v in case.values if v.refused), None)
    known = [value.gap[0] for value in case.values if value.gap is not None]
    gaps = {law for laws in known for law in laws.split(" and ")}
    assert found.broken.keys() == gaps, found.broken
    if refused is None:
        assert found.refused is None
    else:
        assert found.refused is not None and refused in found.refused


def test_the_page_says_what_is_tried() -> None:
    assert PAGE.read_text() == page()
