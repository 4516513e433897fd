"""Figures, pages and listings of studies: what they show is what the evidence says."""

from __future__ import annotations

import io
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import rich.console
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from lottery import cli, plots, report
from lottery.cli import listing, views
from lottery.plots.style import PALETTE
from lottery.report import study_findings, study_tables
from lottery.runs.layout import STUDY
from lottery.storage.directory import StorageError
from lottery.studies import Study, prepare
from lottery.studies.cell import perform
from lottery.studies.evidence import Evidence
from lottery.studies.evidence.metric_text import MetricText
from lottery.studies.jobs import Job
from lottery.studies.pictures import gains_of, seeds_of
from lottery.studies.plan import Cell

mpl.use("Agg")

DIGITS = str(Path(__file__).parents[2] / "recipes" / "digits.yaml")
NAMES = ("reinit", "random", "signs", "one-shot", "shuffle", "order", "random-erk")
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")
LOST = {"ticket": 0.03, "reinit": 0.09, "random": 0.12, "signs": 0.03}


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def study_points(seeds: int = 5, rounds: int = 6, controls: tuple[str, ...] = NAMES[:3], rng: int = 0) -> pd.DataFrame:
    """A study in which sparser networks are worse, controls more so."""
    generator = np.random.default_rng(rng)
    rows = []
    for seed in range(seeds):
        base = 0.95 + generator.normal(0, 0.003)
        for arm, round in [("dense", 0), *((arm, r) for arm in ("ticket", *controls) for r in range(1, rounds + 1))]:
            lost = LOST.get(arm, 0.03) * (round / rounds) ** 3
            step = int(generator.integers(100, 300))
            rows.append(
                {"arm": arm, "seed": seed, "round": round, "density": 0.7**round}
                | {"value": base - lost + generator.normal(0, 0.001), "step": step}
                | {"progress": ((step, 0.9),), "steps": 340}
            )
    return pd.DataFrame(rows)


def lines(ax: Axes) -> dict[str, Any]:
    """The line of each entry of a legend."""
    handles, names = ax.get_legend_handles_labels()
    return {name: handle[0] for name, handle in zip(names, handles) if hasattr(handle, "lines")}


# figures


@pytest.mark.parametrize("count", [0, 3, len(NAMES)])
def test_an_arm_has_one_colour_in_all_figures(count: int) -> None:
    points = study_points(3, 3, NAMES[:count])
    evidence = Evidence(points)
    metric = plots.study_metric(points, ylabel="test_acc", labels=evidence.table()).axes[0]
    speed = plots.learning_speed(evidence.speed().reset_index()).axes[0]
    gains = plots.gains(gains_of(evidence), margin=0.01, percent=True)
    found = [lines(metric), lines(speed), lines(gains.axes[-1]) if count else {}]
    assert list(found[0]) == ["ticket", *NAMES[:count]]
    assert list(found[1]) == ["dense", *NAMES[:count]]
    assert list(found[2]) == [*NAMES[:count]]
    for place, arm in enumerate(found[0]):
        styles = {
            (to_hex(one[arm].get_color()), one[arm].get_marker(), one[arm].get_linestyle())
            for one in found
            if arm in one
        }
        assert len(styles) == 1
        assert styles.pop()[0] == PALETTE[place % len(PALETTE)].lower()


def test_the_metric_is_drawn_as_means_and_marked_as_the_evidence_says() -> None:
    points = study_points()
    evidence = Evidence(points)
    ax = plots.study_metric(points, ylabel="test_acc", labels=evidence.table()).axes[0]
    for arm, line in lines(ax).items():
        rows = points[points["arm"].isin([arm, *(["dense"] * (arm == "ticket"))])]
        means = 100 * rows.groupby("round")["value"].mean()
        np.testing.assert_allclose(line.get_ydata(), means)
    marks = {c.get_label(): c.get_offsets()[:, 0] for c in ax.collections}
    labels = evidence.labels()
    assert {"wins", "below"} <= set(labels.values())
    for label in ("wins", "matching", "below"):
        rounds = [round for round, said in labels.items() if said == label]
        drawn = marks.get(label, [])
        np.testing.assert_allclose(drawn, [100 * 0.7**round for round in rounds])
    assert "open" not in marks and "test_acc [%]" == ax.get_ylabel()


def test_gains_are_those_of_the_evidence() -> None:
    evidence = Evidence(study_points())
    figure = plots.gains(gains_of(evidence), margin=evidence.margin_size, percent=True)
    above, below = figure.axes
    dense = above.containers[0].lines[0].get_ydata()  # type: ignore[attr-defined]
    np.testing.assert_allclose(dense, 100 * evidence.table()["gain"])
    for name, line in lines(below).items():
        gain = evidence.comparison(name)["gain"]
        np.testing.assert_allclose(line.get_ydata(), 100 * gain)
    assert "margin: 1 point below dense" in [text.get_text() for text in above.texts]
    bottom, top = above.get_ylim()
    assert bottom < -1 and top > 0  # margin and zero are in the picture


@given(st.integers(2, 4), st.integers(0, 20))
@settings(max_examples=5, deadline=None)
def test_no_interval_dwarfs_what_it_is_of(seeds: int, rng: int) -> None:
    points = study_points(seeds, 4, NAMES[:2], rng)
    ax = plots.study_metric(points, ylabel="test_acc").axes[0]
    dense = points["value"][points["arm"] == "dense"].mean()
    means = 100 * np.append(points.groupby(["arm", "round"])["value"].mean(), dense)
    low, high = ax.get_ylim()
    assert low < means.min() and means.max() < high
    assert high - low < 3.5 * (means.max() - means.min())
    mpl.pyplot.close("all")


def test_speed_is_drawn_against_each_arm_as_the_evidence_has_it() -> None:
    table = Evidence(study_points(seeds=4)).speed()
    for name, line in lines(plots.learning_speed(table.reset_index()).axes[0]).items():
        np.testing.assert_allclose(line.get_ydata(), table.loc[name]["ratio"])


def test_every_seed_is_a_dot_beside_the_mean_gain() -> None:
    evidence = Evidence(study_points(seeds=4))
    figure = plots.gains(gains_of(evidence), margin=0.01, percent=True, seeds=seeds_of(evidence))
    for ax, arms in zip(figure.axes, (["dense"], evidence.controls), strict=True):
        drawn = [dots.get_offsets()[:, 1] for dots in ax.collections if hasattr(dots, "get_sizes")][: len(arms)]
        for arm, values in zip(arms, drawn, strict=True):
            np.testing.assert_allclose(np.sort(values), np.sort(100 * evidence.gains[arm].differences.ravel()))


def test_barriers_are_drawn_in_percent_with_what_is_stable() -> None:
    rows = [
        {"seed": seed, "round": round, "density": 0.8**round, "height": 0.01 * round}
        for seed in range(3)
        for round in range(5)
    ]
    ax = plots.barriers(pd.DataFrame(rows)).axes[0]
    (line,) = lines(ax).values()
    np.testing.assert_allclose(line.get_ydata(), [0, 1, 2, 3, 4], atol=1e-12)
    assert "stable below 2 %" in [text.get_text() for text in ax.texts]


def test_what_cannot_be_drawn_says_why() -> None:
    evidence = Evidence(study_points())
    nobody = evidence.speed().reset_index().assign(ratio=np.nan)
    with pytest.raises(ValueError, match="no two trainings reached a common level"):
        plots.learning_speed(nobody)
    nothing = gains_of(evidence).assign(gain=np.nan)
    with pytest.raises(ValueError, match="no gain is known"):
        plots.gains(nothing, margin=0.01, percent=True)
    with pytest.raises(ValueError, match="no error barrier was measured"):
        plots.barriers(pd.DataFrame({"round": [], "density": [], "height": []}))


# tables


def test_tables_have_the_numbers_of_the_evidence() -> None:
    evidence = Evidence(study_points())
    overview = study_tables.overview_table(evidence)
    for row, (_, truth) in zip(overview.rows, evidence.table().iterrows(), strict=True):
        said = dict(zip(overview.header, row, strict=True))
        assert said["says"] == truth["label"]
        for name in evidence.controls:
            gain = MetricText(True).change(truth[f"{name} gain"]).removesuffix(" points")
            assert said[f"vs {name}"] == gain + "*" * truth[f"{name} wins"]
    against = study_tables.comparison_table(evidence, "random")
    wins = [row[against.header.index("better")] == "shown" for row in against.rows]
    assert wins == evidence.comparison("random")["wins"].tolist() and any(wins)
    speed = study_tables.speed_table(evidence)
    assert len(speed.rows) == len(evidence.rounds)
    assert all("nan" not in cell for row in speed.rows for cell in row)


def test_cards_look_at_the_round_of_the_verdict() -> None:
    evidence = Evidence(study_points())
    verdict = evidence.verdict()
    _, ticket, *controls, speed = study_findings.cards(evidence)
    assert verdict.winning and ticket.label == "winning ticket"
    assert [card.label for card in controls] == ["ticket over reinit", "ticket over random"]
    for card in (ticket, *controls, speed):
        assert f"round {verdict.round}" in card.note
    assert all("shown to be better, p" in card.note for card in controls)
    one = study_findings.cards(Evidence(study_points(seeds=1)))
    assert one[1].label == "largest gain over dense"
    assert all("nan" not in card.value + card.note for card in one)


# pages and listings of a real study


def train(study: Study, *arms: str) -> None:
    """Train the cells of some arms in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in study.plan.cells():
            if cell.arm in arms:
                perform(Job(cell.key, str(study.path.resolve())))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A tiny study that nobody changes."""
    path = tmp_path_factory.mktemp("studies") / "a <b> study"
    short = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "8"]
    settings = [*short, "--lottery.rounds", "2"]
    study = prepare(DIGITS, path, 2, ["reinit", "order"], [2], settings)
    train(study, *study.arms)
    return study


@pytest.fixture
def copied(whole: Study, tmp_path: Path) -> Study:
    """The tiny study, to be changed."""
    return Study(shutil.copytree(whole.path, tmp_path / "copy"))


@pytest.fixture(scope="module")
def page(whole: Study, tmp_path_factory: pytest.TempPathFactory) -> str:
    before = files(whole.path)
    (path,) = report.write_study(whole, tmp_path_factory.mktemp("page") / "r.html")
    assert files(whole.path) == before  # reports only read
    return path.read_text()


def files(dirpath: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in dirpath.rglob("*") if p.is_file()}


def said_by(view: Any, width: int) -> str:
    console = rich.console.Console(width=width, file=io.StringIO(), markup=False)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined]


def plain(text: str) -> str:
    import html

    return html.unescape(re.sub("<[^>]*>", "", text)).replace("\u00a0", " ")


@pytest.mark.slow
def test_a_page_of_a_study_says_all_that_the_verdict_says(page: str, whole: Study) -> None:
    text = plain(page)
    verdict = whole.evidence().verdict()
    for sentence in (verdict.headline, *verdict.sentences):
        assert sentence in text
    titles = re.findall("<h3>(.*?)</h3>", page)
    assert titles[:4] == ["Evidence by density", "Against dense", "Against reinit", "Against order"]
    assert "Stability" in titles and "Not shown" not in text
    assert "a <b> study" in text and "<b> study" not in page


@pytest.mark.slow
def test_a_page_of_a_study_needs_nothing_but_itself(page: str) -> None:
    sources = re.findall(r'(?:src|href)="(.*?)"', page)
    assert len(set(sources)) == len(sources) == 7
    assert all(source.startswith("data:") for source in sources)
    assert page.count("alt=") == 7 and len(page) < 1_500_000


@pytest.mark.slow
def test_a_markdown_page_refers_to_pictures_that_are_there(whole: Study, tmp_path: Path) -> None:
    path, *pictures = report.write_study(whole, tmp_path / "a study.md")
    links = re.findall(r"!\[.*?\]\((.*?)\)", path.read_text())
    assert [path.parent / link.replace("%20", " ") for link in links] == pictures
    assert "| round | density |" in path.read_text()


@pytest.mark.slow
def test_the_command_on_the_page_makes_the_same_study(whole: Study) -> None:
    import shlex

    from lottery.cli.study import _parser

    _, name, recipe, *options = shlex.split(study_findings.command(whole))
    known, overrides = _parser().parse_known_args(options)
    again = prepare(recipe, known.dirpath, known.seeds, known.controls, known.rounds, overrides)
    assert name == "study" and again.plan == whole.plan


@pytest.mark.slow
def test_what_failed_and_what_is_missing_is_named(copied: Study) -> None:
    lost, never = Cell("reinit", 1, 2), Cell("order", 0, 2)
    for cell in (lost, never):
        shutil.rmtree(copied.path / cell.key)
    (copied.path / f"{lost.key}.failed").write_text("RuntimeError: out of luck\n")
    text = " ".join(study_findings.notes(copied, copied.progress()))
    assert f"{lost.key} failed: RuntimeError: out of luck" in text
    assert f"lottery study {copied.path} goes on with it" in text
    table = study_findings.progress_table(copied, copied.progress())
    found = {row[0]: row[1:] for row in table.rows}
    assert found["reinit"] == ["1", "1", "0", "seed-1/round-02"]
    assert found["order"] == ["3", "0", "1", "seed-0/round-02"]
    said = said_by(views.study_view(copied), 120)
    assert "out of luck" in said and "reinit round 2: seed 1" in said
    (entry,) = listing.entries(copied.path)
    assert entry.status == "study interrupted, 6/8, 1 failed"


def test_a_study_that_has_just_begun_makes_a_page(tmp_path: Path) -> None:
    study = prepare(DIGITS, tmp_path / "new", 2)
    (path,) = report.write_study(study, tmp_path / "r.html")
    assert "No verdict: no round of" in plain(path.read_text())
    assert "<img" not in path.read_text()
    assert "No verdict" in said_by(views.study_view(study), 80)
    (entry,) = listing.entries(tmp_path)
    assert entry.rounds is None and "No verdict" in (entry.says or "")


@pytest.mark.slow
def test_a_metric_without_a_known_margin_needs_one(tmp_path: Path) -> None:
    tiny = ["--trainer.max_epochs", "1", "--lottery.rounds", "1"]
    loss = [*tiny, "--lottery.monitor", "val_loss"]
    study = prepare(DIGITS, tmp_path / "loss", 1, ["reinit"], [1], loss)
    train(study, "ticket")
    evidence, why_not = study_findings.judged(study)
    assert evidence is None and "no margin is known for" in why_not
    assert "No verdict: no margin is known" in said_by(views.study_view(study), 200)
    evidence, _ = study_findings.judged(study, margin=0.05)
    assert evidence is not None and evidence.lower_is_better
    overview = study_tables.overview_table(evidence)
    assert "%" not in overview.rows[0][2] and "in points" not in overview.caption


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_study_in_whole_cells(width: int, whole: Study) -> None:
    for view in (views.study_view(whole), views.listing_view(listing.entries(whole.path.parent), whole.path.parent)):
        said = said_by(view, width)
        assert "…" not in said and max(map(len, said.splitlines())) <= width
        headline = whole.evidence().verdict().headline
        assert headline in " ".join(said.split())


@pytest.mark.slow
def test_a_study_is_one_entry_of_a_listing(whole: Study) -> None:
    (entry,) = listing.entries(whole.path.parent)
    assert (entry.path, entry.status) == (whole.path, "study finished, 8/8")
    points = whole.points()
    dense = points[points["arm"] == "dense"]["value"].mean()
    assert entry.rounds == 3 and entry.dense == pytest.approx(dense)
    runs = listing.entries(whole.path / "ticket")
    assert [run.status for run in runs] == ["finished"] * 2


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    study = prepare(DIGITS, tmp_path / "new")
    assert listing.STUDY == STUDY
    (study.path / STUDY).write_text("{")
    (entry,) = listing.entries(tmp_path)
    assert entry.status == "damaged" and STUDY in (entry.wrong or "")
    assert cli.main(["inspect", str(study.path)]) == 2


def test_a_report_is_of_one_study_or_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = prepare(DIGITS, tmp_path / "new").path
    study, run = str(path), str(path / "ticket" / "seed-0")
    for wrong in ([study, run], [f"a={study}"], [study, study]):
        assert cli.main(["report", *wrong]) == 2
        assert "is a study, which has arms of its own" in capsys.readouterr().err
    assert cli.main(["report", run, "--margin", "1"]) == 2
    assert "--margin is for the verdict on a study" in capsys.readouterr().err
    assert cli.main(["inspect", run, "--level", "0.1"]) == 2
    assert "--level is for the verdict on a study" in capsys.readouterr().err
    assert cli.main(["inspect", study, "--round", "1"]) == 2
    assert f"{run} --round 1" in capsys.readouterr().err
    assert cli.main(["report", study]) == 0
    assert "report.html" in capsys.readouterr().out
    assert (path / "report.html").exists()


def test_a_study_says_what_it_lacks(tmp_path: Path) -> None:
    study = prepare(DIGITS, tmp_path / "new", 2, ["signs"])
    with pytest.raises(ValueError, match="choose from metric, difference"):
        study.plot("nothing")
    with pytest.raises(ValueError, match="--controls signs,order"):
        study.plot("barrier")
    with pytest.raises(StorageError, match="no round"):
        study.plot()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["metric", "difference", "early-stop", "speed", "barrier"])
def test_a_study_draws_on_axes_that_it_is_given(kind: str, whole: Study) -> None:
    figure, axes = mpl.pyplot.subplots()
    picture = whole.plot(kind, ax=axes)
    assert picture.figure is figure
    assert any(panel.get_legend() for panel in picture.axes)
