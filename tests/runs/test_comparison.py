"""Runs side by side: means and intervals over seeds, arms, and their pictures."""

import math

import matplotlib as mpl
import numpy as np
import pytest
import torch
import zoo
from scipy import stats

from lottery import Masks, Run, StorageError, compare
from lottery.masks.history import MaskHistory
from lottery.runs.comparison import Comparison
from lottery.runs.layout import encode_masks, masks_file, round_file
from lottery.runs.pictures import gallery
from lottery.storage.directory import Directory
from lottery.storage.encoding import encode_json, encode_tensors
from lottery.training.record import Record

mpl.use("Agg")

SHAPES = {"fc1.weight": (8, 16), "fc2.weight": (3, 8)}
SETTINGS = {"pruning": {}, "rewind": {"rule": "weights"}, "monitor": ["val_acc", "max"], "parameters": SHAPES}
INFO = {"id": "a", "seed": 0, "versions": {}, "settings": SETTINGS}


def accuracy(seed, round):
    return 0.5 + 0.01 * round + 0.1 * math.sin(seed + round)


def write_run(path, seed=0, rounds=4, monitor="val_acc", keep="all", begun=0, gap=()):
    """A run directory as a fit leaves it, without the fit.

    Args:
        rounds: how many are finished.
        begun: how many more have masks.
        gap: rounds whose monitored metric was never logged.
    """
    generator = torch.Generator().manual_seed(seed)
    masks = [Masks.ones({n: torch.empty(s) for n, s in SHAPES.items()})]
    for _ in range(1, rounds + begun):
        lives = {n: torch.rand(s, generator=generator) < 0.7 for n, s in SHAPES.items()}
        masks.append(masks[-1] & lives)
    files = {
        "run.json": encode_json({**INFO, "seed": seed}),
        masks_file(len(masks) - 1): encode_masks(MaskHistory.of(masks)),
    }
    for number in range(rounds):
        record = Record(monitor, start={"val_acc": 0.1})
        for epoch in (1, 2):
            logged = {"val_acc": accuracy(seed, number) - 0.1 * (2 - epoch)}
            record.add(10 * epoch, epoch, {} if number in gap else logged)
        record.best_test = {"test_acc": accuracy(seed, number) - 0.05}
        weights = {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
        masks[number].apply(weights)
        if keep == "all" or number == rounds - 1:
            name = round_file(number, "weights.safetensors")
            files[name] = encode_tensors(weights)
        summary = zoo.summary_of(record, number, masks[number], test_last={"test_acc": 0.3})
        files[round_file(number, "summary.json")] = encode_json(summary.plain())
        files[round_file(number, "history.json")] = encode_json(record.history)
    Directory(path).commit(files)
    return path


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Three seeds; the last has two rounds less and one begun."""
    folder = tmp_path_factory.mktemp("seeds")
    return [write_run(folder / "0", 0), write_run(folder / "1", 1), write_run(folder / "2", 2, rounds=2, begun=1)]


@pytest.fixture(scope="module")
def arms(seeds, tmp_path_factory):
    """The seeds, and another arm of two seeds with more rounds."""
    folder = tmp_path_factory.mktemp("others")
    others = [write_run(folder / str(s), s, rounds=6) for s in (7, 8)]
    return {"ticket": seeds, "one-shot": others}


# Numbers


def test_the_points_are_the_finished_rounds_of_every_run(arms):
    points = compare(arms).points()
    assert list(points.columns[:3]) == ["arm", "run", "round"]
    expected = [
        (arm, str(path), number) for arm, paths in arms.items() for path in paths for number in Run(path).rounds
    ]
    rows = points[["arm", "run", "round"]].itertuples(index=False)
    assert [tuple(row) for row in rows] == expected
    assert (points["status"] == "finished").all()
    for (arm, run), part in points.groupby(["arm", "run"]):
        assert arm in arms
        table = Run(run).table().dropna(how="all", axis=1)
        table = table[table["status"] == "finished"]
        for column in table.columns:
            assert list(part[column]) == list(table[column])


def test_means_and_intervals_are_those_of_students_t(arms):
    table = compare(arms).table("best_val_acc")
    assert list(table.columns) == ["density", "runs", "mean", "low", "high"]
    assert table.index.names == ["arm", "round"]
    runs = {("ticket", number): [0, 1, 2] if number < 2 else [0, 1] for number in range(4)} | {
        ("one-shot", number): [7, 8] for number in range(6)
    }
    assert list(table.index) == list(runs)
    for (arm, number), seeds in runs.items():
        values = [accuracy(seed, number) for seed in seeds]
        row = table.loc[(arm, number)]
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert row["runs"] == len(seeds)
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["low"] == pytest.approx(low) and row["high"] == pytest.approx(high)
        densities = [Run(path).masks[number].density for path in arms[arm] if number in Run(path).rounds]
        assert row["density"] == pytest.approx(np.mean(densities))


def test_one_run_has_no_interval(seeds):
    table = compare(seeds[:1]).table("best_val_acc")
    assert (table["runs"] == 1).all()
    assert table["mean"].notna().all() and table[["low", "high"]].isna().all(axis=None)


def test_a_round_without_the_metric_is_left_out_of_the_mean(seeds, tmp_path):
    odd = write_run(tmp_path / "odd", 3, gap=(1,))
    table = compare([*seeds, odd]).table("best_val_acc")
    assert list(table["runs"]) == [4, 3, 3, 3]
    assert table.loc[("ticket", 1), "mean"] == pytest.approx(np.mean([accuracy(seed, 1) for seed in (0, 1, 2)]))
    alone = compare([odd]).table("best_val_acc")
    assert alone.loc[("ticket", 1), "runs"] == 0
    assert math.isnan(alone.loc[("ticket", 1), "mean"])


def test_the_metric_is_the_one_that_says_most_or_the_one_that_is_named(seeds):
    comparison = compare(seeds)
    assert Run(seeds[0]).metric == "best_test_acc"
    assert comparison.table().equals(comparison.table("best_test_acc"))
    assert comparison.table("val_acc").equals(comparison.table("best_val_acc"))
    assert not comparison.table().equals(comparison.table("last_test_acc"))


def test_runs_may_be_given_as_paths_or_opened(seeds):
    by_path, opened = compare(seeds), compare([Run(path) for path in seeds])
    assert by_path.table().equals(opened.table())
    assert repr(by_path) == "Comparison(ticket (3))"
    assert by_path._repr_html_() == by_path.table()._repr_html_()


# Bad input


@pytest.mark.parametrize("runs", [[], {}, {"ticket": []}])
def test_where_there_are_no_runs_there_is_nothing_to_compare(runs):
    with pytest.raises(ValueError, match="nothing to compare: .* without runs"):
        compare(runs)


def test_an_arm_without_runs_is_named(seeds):
    with pytest.raises(ValueError, match=r"\['empty'\] without runs"):
        compare({"ticket": seeds, "empty": []})


def test_a_path_without_a_run_is_named(seeds, tmp_path):
    with pytest.raises(StorageError, match=f"{tmp_path / 'no'} holds no run"):
        compare([*seeds, tmp_path / "no"])


def test_runs_of_no_finished_round_are_named(tmp_path):
    path = write_run(tmp_path / "new", rounds=0, begun=1)
    for use in (Comparison.points, Comparison.table, Comparison.plot):
        with pytest.raises(StorageError, match=f"no round is finished yet in {path}"):
            use(compare([path]))


def test_a_run_of_no_finished_round_beside_others_is_left_out(seeds, tmp_path):
    path = write_run(tmp_path / "new", rounds=0, begun=1)
    both = compare([path, *seeds]).table("best_val_acc")
    assert both.equals(compare(seeds).table("best_val_acc"))


@pytest.mark.parametrize("metric", ["nothing", "density", "status"])
def test_another_metric_is_refused_with_those_there_are(seeds, metric):
    comparison = compare(seeds)
    for use in (comparison.table, lambda m: comparison.plot("metric", m)):
        with pytest.raises(ValueError, match=rf"'{metric}'.*best_val_acc.*test_acc"):
            use(metric)
    with pytest.raises(ValueError, match=rf"'{metric}' was not logged.*\['val_acc'\]"):
        comparison.plot("curves", metric)


@pytest.mark.parametrize("kind", ["curve", "", None])
def test_another_picture_is_refused_with_those_there_are(seeds, kind):
    with pytest.raises(ValueError, match="choose from metric, curves, early-stop"):
        compare(seeds).plot(kind)


def test_without_a_monitor_there_is_no_step_of_the_best(tmp_path):
    run = Run(write_run(tmp_path / "run", monitor=None))
    with pytest.raises(ValueError, match=r"LotteryTicket\(monitor=...\)"):
        run.plot("early-stop")
    mpl.pyplot.close(run.plot("metric").figure)


def test_weights_that_were_not_kept_cannot_be_drawn(tmp_path):
    run = Run(write_run(tmp_path / "run", keep="last"))
    with pytest.raises(StorageError, match="keep='all'"):
        run.plot("weights")
    with pytest.raises(StorageError, match="weights of round 1 were not kept"):
        run.plot("weights", round=1)


@pytest.mark.parametrize("round", [3, 4, -1])
def test_weights_of_a_round_that_was_not_pruned_cannot_be_drawn(seeds, round):
    with pytest.raises(StorageError, match=rf"round {round}"):
        Run(seeds[0]).plot("weights", round=round)


# Pictures


@pytest.mark.parametrize("kind", list(gallery))
@pytest.mark.parametrize("many", [False, True])
def test_every_picture_has_axes_that_say_what_they_show(arms, kind, many):
    comparison = compare(arms if many else arms["ticket"][:1])
    drawn = comparison.plot(kind)
    figure = drawn.figure
    shown = [ax for ax in figure.axes if ax.has_data()]
    assert shown and all(ax.get_title() or ax.get_title("left") or ax.get_xlabel() or ax.get_ylabel() for ax in shown)
    mpl.pyplot.close(figure)


def test_the_lines_are_the_means(arms):
    (ax,) = compare(arms).plot("metric", "best_val_acc").axes
    table = compare(arms).table("best_val_acc")
    lines = [tuple(line.get_ydata()) for line in ax.lines]
    for arm in arms:
        means = tuple(100 * table.loc[arm, "mean"])
        assert any(line == pytest.approx(means) for line in lines if len(line) > 2)
    mpl.pyplot.close(ax.figure)


def test_a_run_draws_what_its_comparison_with_itself_draws(seeds):
    for kind in ("metric", "curves", "early-stop", "densities"):
        own, compared = Run(seeds[0]).plot(kind), compare(seeds[:1]).plot(kind)
        for one, other in zip(own.axes[0].lines, compared.axes[0].lines, strict=True):
            assert np.array_equal(one.get_xydata(), other.get_xydata(), equal_nan=True)
        mpl.pyplot.close(own.figure), mpl.pyplot.close(compared.figure)


def test_a_picture_goes_where_it_is_told(seeds):
    for kind in gallery:
        figure, ax = mpl.pyplot.subplots()
        assert Run(seeds[0]).plot(kind, ax=ax).figure is figure
        mpl.pyplot.close(figure)


@pytest.mark.parametrize("kind", list(gallery))
def test_an_option_that_a_picture_does_not_have_is_refused_by_name(seeds, kind):
    with pytest.raises(ValueError, match=f"foo=1: kind='{kind}' has no such option; its options are .*ax"):
        Run(seeds[0]).plot(kind, foo=1)


@pytest.mark.parametrize("kind", ["curves", "densities", "paths", "weights", "deaths"])
def test_every_arm_of_a_comparison_has_panels_of_its_own(arms, kind):
    one, several = compare({"ticket": arms["ticket"]}).plot(kind), compare(arms).plot(kind)
    assert len(several.axes) >= len(arms) * len(one.axes) - 1  # the pixels of a first layer are shown once
    titles = [ax.get_title() for ax in several.axes]
    assert all(any(arm in title for title in titles) for arm in arms)
    mpl.pyplot.close(one.figure), mpl.pyplot.close(several.figure)


def test_patterns_choose_what_is_drawn(seeds):
    run = Run(seeds[0])
    name = list(run.masks[0])[-1]
    for kind in ("weights", "deaths"):
        picture = run.plot(kind, include=f"*{name}")
        assert [ax.get_title().split("\n")[0] for ax in picture.axes] == [name]
        mpl.pyplot.close(picture.figure)
    with pytest.raises(ValueError, match="include='nothing'"):
        run.plot("densities", include="nothing")


def test_one_run_is_no_list_of_runs(seeds):
    for one in (str(seeds[0]), seeds[0], Run(seeds[0])):
        with pytest.raises(TypeError, match="give a list of runs"):
            compare(one)
