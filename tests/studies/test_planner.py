"""Plans: candidates that fit, predictions from what was measured and nothing else, and words that tell a guess."""

import math

import pandas as pd
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery import Pruning, Run
from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks
from lottery.runs.layout import encode_masks, masks_file, round_file
from lottery.storage.directory import Directory
from lottery.storage.encoding import encode_json
from lottery.studies.planner import Measured, plan
from lottery.training.record import Record

EPOCHS = 10
ROUNDS = 8


def value(round, epoch):
    """Falls with sparsity, rises over epochs and dips at the last."""
    return 0.9 - 0.002 * round**1.5 - 0.3 * 0.5**epoch - 0.01 * (epoch == EPOCHS)


def measured(one_shot=None, spread=0.002, sign=1, rounds=ROUNDS):
    rows = [
        (round, 0.7**round, epoch, sign * value(round, epoch), spread)
        for round in range(rounds + 1)
        for epoch in range(1, EPOCHS + 1)
    ]
    curves = pd.DataFrame(rows, columns=["round", "density", "epoch", "value", "spread"])
    return Measured(curves, 0.5, one_shot or {}, lower_is_better=sign < 0)


WORSE = {0.5: 0.88, 0.7**ROUNDS: 0.7}
"""One shot loses much at low density."""


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.floats(0.06, 0.95))
def test_every_candidate_fits_the_budget_and_reaches_the_density(budget, density):
    found = plan(measured(WORSE), budget, density)
    assert all(c.total <= budget for c in found.candidates)
    assert len({(c.rounds, c.epochs) for c in found.candidates}) == len(found.candidates)
    assert len(found.candidates) == sum((n + 1) * e <= budget for n in range(1, budget) for e in range(1, budget))
    for c in found.candidates:
        assert c.densities()[-1] == pytest.approx(density)
        assert len(c.densities()) == c.rounds


def test_the_measured_rounds_and_epochs_are_predicted_as_measured():
    found = plan(measured(WORSE), (ROUNDS + 1) * EPOCHS, 0.7**ROUNDS)
    whole = next(c for c in found.candidates if (c.rounds, c.epochs) == (ROUNDS, EPOCHS))
    assert whole.predicted == pytest.approx(value(ROUNDS, EPOCHS - 1))
    assert not whole.extrapolated


def test_one_round_is_predicted_as_the_one_shot_arm_was_measured():
    found = plan(measured(WORSE), 2 * EPOCHS, 0.7**ROUNDS)
    one = next(c for c in found.candidates if (c.rounds, c.epochs) == (1, EPOCHS))
    assert one.predicted == pytest.approx(0.7)


def test_fewer_rounds_lie_between_one_shot_and_all_rounds():
    found = plan(measured(WORSE), 200, 0.7**ROUNDS)
    by = {c.rounds: c.predicted for c in found.candidates if c.epochs == EPOCHS}
    within = [by[n] for n in range(1, ROUNDS + 1)]
    assert within == sorted(within)
    # linear in log(density) / n: two rounds take half the step of one, in logarithms
    share = (1 / 2 - 1 / ROUNDS) / (1 - 1 / ROUNDS)
    assert by[2] == pytest.approx(within[-1] - share * (within[-1] - within[0]))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_is_the_best_predicted_in_either_direction(sign):
    one_shot = {d: sign * v for d, v in WORSE.items()}
    found = plan(measured(one_shot, sign=sign), 40, 0.1)
    predicted = [sign * c.predicted for c in found.candidates]
    assert predicted == sorted(predicted, reverse=True)
    mirrored = plan(measured(WORSE), 40, 0.1)
    assert [c.rounds for c in found.candidates] == [c.rounds for c in mirrored.candidates]


def test_of_equal_predictions_the_cheapest_comes_first():
    found = plan(measured(WORSE), 400, 0.7**ROUNDS)
    best = max(c.predicted for c in found.candidates)
    equal = [c.total for c in found.candidates if c.predicted == best]
    assert len(equal) > 1
    assert found.best.total == min(equal)


def test_where_rounds_are_worth_little_they_are_saved_and_where_much_epochs_are():
    cheap = {0.5: 0.9, 0.7**ROUNDS: value(ROUNDS, EPOCHS - 1) - 0.001}
    dear = {0.5: 0.9, 0.7**ROUNDS: 0.2}
    few, many = (plan(measured(one), 30, 0.7**ROUNDS) for one in (cheap, dear))
    assert few.best.rounds < many.best.rounds
    assert few.best.epochs > many.best.epochs
    assert "no more than saving epochs" in str(few)
    assert "unlike what is usually expected" in str(many)


def test_nothing_beyond_the_measured_goes_without_a_flag():
    found = plan(measured(WORSE), 150, 0.7**ROUNDS / 2)
    for c in found.candidates:
        assert any("density below" in flag for flag in c.extrapolated)
        assert any("epochs a round" in f for f in c.extrapolated) == (c.epochs > EPOCHS)
        assert any(f.endswith("rounds") for f in c.extrapolated) == (c.rounds > ROUNDS)
        assert ("one-shot at this density" in c.extrapolated) == (c.rounds < ROUNDS)
    assert "Beyond what was measured: density below" in str(found)


def test_without_a_one_shot_arm_fewer_rounds_are_unknown_and_the_plan_asks_for_it():
    found = plan(measured(), 60, 0.7**ROUNDS)
    for c in found.candidates:
        assert math.isnan(c.predicted) == (c.rounds < ROUNDS)
    assert found.best.rounds == ROUNDS
    assert "--controls one-shot" in str(found)


def test_where_nothing_measured_tells_the_longest_rounds_come_first_and_it_is_called_a_guess():
    found = plan(measured(), 3 * EPOCHS, 0.7**ROUNDS)
    assert [c for c in found.candidates if not math.isnan(c.predicted)]
    found = plan(measured(), ROUNDS, 0.7**ROUNDS)
    assert (found.best.rounds, found.best.epochs) == (1, ROUNDS // 2)
    assert "a guess" in str(found)


def test_an_epoch_before_the_first_validation_is_not_predicted():
    late = measured(WORSE)
    late = Measured(late.curves[late.curves["epoch"] % 5 == 0], 1.0, WORSE)
    found = plan(late, 40, 0.1)
    assert all(math.isnan(c.predicted) == (c.epochs < 5) for c in found.candidates)


def test_plans_within_the_spread_of_seeds_are_told_with_the_cheapest():
    found = plan(measured(WORSE, spread=0.01), 60, 0.1)
    near = found.alike()
    assert found.best in near
    assert near[0].total == min(c.total for c in near)
    assert f"the cheapest takes {near[0].total} epochs" in str(found)
    assert "spread" not in str(plan(measured(WORSE, spread=math.nan), 60, 0.1))


def test_confirming_costs_every_training_of_the_study():
    found = plan(measured(WORSE), 40, 0.1)
    n, e = found.best.rounds, found.best.epochs
    assert found.cost(seeds=1, controls=0)[0] == (n + 1) * e
    epochs, seconds = found.cost(seeds=3, controls=2)
    assert epochs == 3 * e * (n + 1 + 2 * min(n, 6))
    assert found.cost(3, 2, compared=1)[0] == 3 * e * (n + 1 + 2)
    assert seconds == 0.5 * epochs
    assert f"{found.cost()[0]:,} epochs" in str(found)


@pytest.mark.parametrize(
    "pruning", [0.2, [0.5, 0.2], {"amount": 0.2, "scope": "layerwise"}, {"densities": [0.5, 0.2]}], ids=str
)
def test_overrides_change_the_amount_where_the_recipe_has_it(pruning):
    best = plan(measured(WORSE), 40, 0.1).best
    given = dict(zip(*[iter(best.overrides(pruning))] * 2, strict=True))
    assert given["--lottery.rounds"] == str(best.rounds)
    assert given["--trainer.max_epochs"] == str(best.epochs)
    key = next(key for key in given if key.startswith("--lottery.pruning"))
    changed = eval(given[key])
    if key == "--lottery.pruning":
        new = Pruning.of(changed)
    else:
        new = Pruning.of({**pruning, key.rpartition(".")[2]: changed})
    densities = new.densities or [(1 - new.amount) ** best.rounds]
    assert densities[-1] == pytest.approx(0.1, abs=1e-3)


def test_budgets_that_hold_no_pruned_round_are_refused_with_the_smallest_that_works():
    for budget in (1, 0, -3):
        with pytest.raises(ValueError, match="smallest that works is 2"):
            plan(measured(WORSE), budget, 0.1)
    assert plan(measured(WORSE), 2, 0.1).best.total == 2


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="density=1.5"):
        plan(measured(WORSE), 10, 1.5)
    with pytest.raises(ValueError, match="no pruned round"):
        measured(rounds=0)
    with pytest.raises(ValueError, match="'spread'"):
        Measured(measured().curves.drop(columns="spread"), 1.0)


def write_run(path, seed, density, rounds):
    """A run directory as a fit leaves it, without the fit."""
    masks = [Masks.ones({"w": torch.empty(10)})]
    settings = {"pruning": {}, "rewind": {}, "monitor": ["val_acc", "max"], "parameters": {"w": [10]}}
    files = {"run.json": encode_json({"id": "a", "seed": seed, "versions": {}, "settings": settings})}
    for number in range(rounds):
        record = Record("val_acc", seconds=8.0)
        for epoch in (1, 2):
            for half in (0.0, 0.5):
                logged = {"val_acc": 0.5 + 0.1 * epoch - 0.01 * number * half + seed / 100}
                record.add(10 * epoch, epoch, logged)
        summary = zoo.summary_of(record, number, masks[0]).plain()
        summary["density"] = density**number if rounds > 1 else density
        files[round_file(number, "summary.json")] = encode_json(summary)
        files[round_file(number, "history.json")] = encode_json(record.history)
    files[masks_file(rounds - 1)] = encode_masks(MaskHistory.of(masks * rounds))
    Directory(path).commit(files)
    return Run(path)


def test_runs_of_several_seeds_are_averaged_epoch_by_epoch(tmp_path):
    runs = [write_run(tmp_path / f"{seed}", seed, 0.5, rounds=3) for seed in (0, 1)]
    cells = [write_run(tmp_path / f"one-{s}", s, 0.25, rounds=1) for s in (0, 1)]
    found = Measured.of_runs(runs, one_shot=cells)
    assert found.metric == "val_acc"
    assert not found.lower_is_better
    assert found.seconds_per_epoch == 4.0
    assert found.epochs == 2
    rows = found.curves.set_index(["round", "epoch"])
    assert rows.loc[(1, 2), "value"] == pytest.approx(0.705)  # the better validation
    assert rows.loc[(1, 2), "spread"] == pytest.approx(0.01 / 2**0.5)
    assert found.one_shot == {0.25: pytest.approx(0.705)}
