"""Looks at a study: what is judged when, and that each look is noted and paid for."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lottery.foundations.statistics.looks import share
from lottery.runs.layout import STUDY
from lottery.studies import looking
from lottery.studies.driver import Progress
from lottery.studies.looking import Seen, look_at
from lottery.studies.plan import RECIPE, Plan


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Seen]:
    """Looks at a study of so many seeds, of which some are left to train."""

    def look(seeds: int, left: tuple[int, ...] = (), now: bool = False, **changes: Any) -> Seen:
        grid: dict[str, Any] = {"seeds": tuple(range(seeds)), "controls": ("signs",), "rounds": (1, 2), **changes}
        Plan("a recipe", (), **grid, last=9).write(tmp_path)

        def standing(path: Path, plan: Plan) -> Progress:
            cells = list(plan.cells())
            return Progress(cells, {cell for cell in cells if cell.seed not in left})

        monkeypatch.setattr(looking, "standing", standing)
        return look_at(tmp_path, Plan.read(tmp_path), now)

    return look


def test_a_look_is_noted_in_the_study_and_read_again_for_nothing(study: Callable[..., Seen], tmp_path: Path) -> None:
    seen = study(5)
    (look,) = seen.plan.looks
    assert look.seeds == (0, 1, 2, 3, 4) == tuple(seen.seeds)
    assert (look.arms, look.rounds, look.spent) == (("signs",), (1, 2), share(1))
    assert look.when.startswith("20")
    before = (tmp_path / STUDY).read_bytes()
    assert json.loads(before)["looks"][0]["seeds"] == [0, 1, 2, 3, 4]
    for _ in range(2):
        assert study(5).plan.looks == (look,)
    assert (tmp_path / STUDY).read_bytes() == before


def test_nothing_is_judged_before_all_is_trained_unless_somebody_says_now(study: Callable[..., Seen]) -> None:
    waiting = study(5, left=(4,))
    assert not waiting.plan.looks and not waiting.seeds
    assert waiting.waiting == "12 of 15 trainings are done, and a study is judged when all are"
    early = study(5, left=(4,), now=True)
    assert early.plan.looks[0].seeds == (0, 1, 2, 3)
    assert early.notes == ["Seed 4 will be judged at the next look, when it is trained."]


def test_seeds_that_are_added_are_another_look_once_there_are_three(study: Callable[..., Seen]) -> None:
    study(5)
    two = study(7)
    assert len(two.plan.looks) == 1 and list(two.seeds) == [0, 1, 2, 3, 4]
    assert two.notes == ["Seeds 5 and 6 will be judged at the next look, which needs 3 new seeds."]
    half = study(9, left=(8,))
    assert len(half.plan.looks) == 1
    second = study(9)
    assert [look.seeds for look in second.plan.looks] == [(0, 1, 2, 3, 4), (5, 6, 7, 8)]
    assert [look.spent for look in second.plan.looks] == [share(1), share(2)]


@pytest.mark.parametrize("changes", [{"rounds": (1, 2, 3)}, {"controls": ("signs", "order")}])
def test_other_rounds_or_controls_are_another_look(study: Callable[..., Seen], changes: dict[str, Any]) -> None:
    study(5)
    seen = study(5, **changes)
    assert [look.seeds for look in seen.plan.looks] == [(0, 1, 2, 3, 4), ()]
    assert list(seen.seeds) == [0, 1, 2, 3, 4]
    assert len(study(5, **changes).plan.looks) == 2


def test_fewer_than_three_seeds_are_no_look(study: Callable[..., Seen]) -> None:
    seen = study(2)
    assert not seen.plan.looks and not seen.waiting


def test_a_study_of_an_earlier_version_is_judged_as_a_first_look(study: Callable[..., Seen], tmp_path: Path) -> None:
    study(2)
    stored = json.loads((tmp_path / STUDY).read_bytes())
    for name in ("looks", "margin", "level"):
        stored.pop(name)
    (tmp_path / STUDY).write_text(json.dumps({**stored, "seeds": [0, 1, 2, 3]}))
    assert Plan.read(tmp_path).looks == ()
    assert [look.seeds for look in study(4).plan.looks] == [(0, 1, 2, 3)]


def test_margin_and_level_are_kept_and_cannot_be_changed_after_a_look(
    study: Callable[..., Seen], tmp_path: Path
) -> None:
    assert study(5, left=(1,), margin="10%", level=0.1).plan.margin == "10%"
    assert study(5, left=(1,)).plan.level == 0.1  # not asked for again
    study(5, margin=0.02)
    assert Plan.read(tmp_path).margin == 0.02
    with pytest.raises(ValueError, match="the margin is 0.02 in the study, which was judged by it, and 0.03 now"):
        study(5, margin=0.03)
    assert study(5, margin=0.02).plan.looks


@pytest.mark.parametrize("wrong", [{"margin": 0}, {"margin": "-1%"}, {"level": 0}, {"level": 1.0}])
def test_a_margin_or_a_level_out_of_range_is_refused_at_the_start(study: Callable[..., Seen], wrong: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        study(5, **wrong)


def test_what_two_processes_add_to_a_study_is_in_it(tmp_path: Path) -> None:
    """Neither overwrites what the other has written since it read the plan."""
    base = Plan("a recipe", (), (0,), ("signs",), (1,), last=9)
    base.write(tmp_path)
    plans = [base.extended(Plan("a recipe", (), (seed,), ("signs",), (1,), last=9)) for seed in range(1, 6)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda plan: plan.write(tmp_path), plans))
    assert sorted(Plan.read(tmp_path).seeds) == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / RECIPE).read_text() == "a recipe"
