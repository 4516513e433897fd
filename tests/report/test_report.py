"""Reports, listings and sparklines: true words about real runs, in pages that stand alone."""

from __future__ import annotations

import html.parser
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import rich.console
import torch
import zoo
from hypothesis import example, given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR, StepLR

from lottery import LotteryTicket, Run, StorageError, report
from lottery.cli import listing, views
from lottery.cli.listing import best_ticket
from lottery.masks.masks import Masks
from lottery.report import facts, figures
from lottery.report.findings import Findings
from lottery.runs.schema import Settings
from lottery.storage.directory import Directory
from lottery.text.sparkline import bar, sparkline
from lottery.training.record import Record

matplotlib.use("agg")
ODD = 'a <b> & "c" [d] ü|%'
VOID = {"meta", "img", "link", "br", "hr", "input"}


def train(dirpath: Path, *callbacks: Any, **options: Any) -> Run:
    seed, module = options.pop("seed", 1), options.pop("module", zoo.Net)
    ticket = LotteryTicket(dirpath=dirpath, **{"rounds": 2, "monitor": "val_acc", **options})
    zoo.fit(module, ticket, *callbacks, seed=seed, max_epochs=2)
    return Run(dirpath)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three runs that nobody changes, in directories with names that need care."""
    root = tmp_path_factory.mktemp("seeds")
    return [train(root / f"{ODD} {seed}", seed=seed, keep="all") for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def page(seeds: list[Run], tmp_path_factory: pytest.TempPathFactory) -> str:
    before = [files(run.path) for run in seeds]
    text = html_of({"ticket": seeds}, tmp_path_factory.mktemp("page"))
    assert [files(run.path) for run in seeds] == before  # reports only read
    return text


class Page(html.parser.HTMLParser):
    """What a browser would find: elements, text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == "img"]


def html_of(arms: dict[str, list[Run]], directory: Path) -> str:
    (written,) = report.write(arms, directory / "report.html")
    return written.read_text()


def files(dirpath: Path) -> dict[Path, tuple[bytes, int]]:
    found = (path for path in dirpath.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_a_page_needs_nothing_but_itself(page: str) -> None:
    found = Page(page)
    for tag, attributes in found.elements:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in page and "@import" not in page
    assert len(page) < 2_000_000


def test_a_page_has_each_picture_once_with_words_for_those_who_cannot_see_it(page: str) -> None:
    images = Page(page).images
    assert len({image["src"] for image in images}) == len(images) == 9
    assert all(image["alt"] for image in images)


def test_names_show_as_they_are(page: str, seeds: list[Run]) -> None:
    text = Page(page).text
    assert f"Lottery report: {', '.join(run.path.name for run in seeds)}" in text
    assert "<b> &" not in page


def test_markdown_refers_to_pictures_that_are_there(tmp_path: Path) -> None:
    arms = {ODD: [train(tmp_path / "a", rounds=0)], "b": [train(tmp_path / "b", rounds=0)]}
    path, *pictures = report.write(arms, tmp_path / "page" / "my report.md")
    links = re.findall(r"!\[.*?\]\((.*?)\)", path.read_text())
    assert [path.parent / link.replace("%20", " ") for link in links] == pictures
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    written = sorted(p for p in path.parent.rglob("*") if p.is_file())
    assert sorted([path, *pictures]) == written
    assert r'## a &lt;b> &amp; "c" \[d\] ü\|%' in path.read_text()


def test_a_report_inside_a_run_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    run = train(tmp_path, rounds=0)
    before = files(run.path)
    html_of({"ticket": [run]}, tmp_path)
    after = files(run.path)
    assert after.pop(tmp_path / "report.html") and after == before
    assert train(tmp_path, rounds=1).rounds == [0, 1]


def test_a_run_that_is_being_written_says_so(seeds: list[Run]) -> None:
    with Directory(seeds[0].path).locked():
        (note,) = facts.notes(seeds[:1])
        (entry,) = listing.entries(seeds[0].path)
    assert "is still being written" in note and entry.status == "running"
    assert facts.notes(seeds) == []


def test_runs_that_are_no_seeds_of_one_arm_are_told_apart(seeds: list[Run], tmp_path: Path) -> None:
    other = train(tmp_path, rounds=0, seed=1, pruning=0.5, keep="all")
    same, differ = facts.notes([seeds[0], other])
    assert "same seed" in same and "differ in more than their seeds: pruning" in differ


@pytest.mark.parametrize(
    ("epochs", "finished", "words"), [(1, [], "No round is finished yet"), (3, [0], "No pruned round is finished yet")]
)
def test_an_interrupted_run_says_what_it_has(epochs: int, finished: list[int], words: str, tmp_path: Path) -> None:
    killer = zoo.KillAt("on_train_epoch_start", epochs)
    with pytest.raises(zoo.Killed):
        train(tmp_path, killer)
    run = Run(tmp_path)
    assert run.rounds == finished
    found = Page(html_of({"ticket": [run]}, tmp_path))
    assert words in found.text and "was interrupted in round" in found.text
    assert "Not shown:" in found.text and len(found.images) == len(finished)
    (entry,) = listing.entries(tmp_path)
    assert (entry.status, entry.round) == ("interrupted", len(finished))
    assert entry.rounds == len(finished)


class Lost(zoo.Net):
    """What it monitors is no number."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({"val_loss": 1.0, "val_acc": math.nan})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"module": Lost, "rounds": 0}, "Round 0 has no finite val_acc"),
        ({"module": zoo.NoValidation, "monitor": None}, "No metric was monitored"),
    ],
)
def test_a_run_with_little_to_say_makes_a_page(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    run = train(tmp_path, **{"rounds": 1, **options})
    found = Page(html_of({"ticket": [run]}, tmp_path))
    assert words in found.text and "nan" not in found.text.lower().split()
    assert "best ticket" not in found.text


@pytest.mark.parametrize("options", [{}, {"monitor": None}])
def test_the_metric_is_the_runs(options: dict[str, Any], tmp_path: Path) -> None:
    run = train(tmp_path, rounds=0, **options)
    metric = run.summary(0).metric
    assert metric is not None and metric.column == run.metric


def test_what_cannot_be_one_arm_is_refused(seeds: list[Run], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same run"):
        report.write({"ticket": [seeds[0], Run(seeds[0].path)]}, tmp_path / "x.html")
    other = train(tmp_path / "other", module=zoo.Recurrent, rounds=0)
    with pytest.raises(ValueError, match="other prunable parameters.*NAME="):
        report.write({"ticket": [seeds[0], other]}, tmp_path / "x.html")
    with pytest.raises(ValueError, match=r"x\.pdf.*\.html"):
        report.write({"ticket": seeds}, tmp_path / "x.pdf")
    assert not list(tmp_path.glob("x.*"))


class Scheduled(zoo.Net):
    """Two optimizers, one with groups, three schedules, one of them of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> Any:
        first, last = self.net[0], self.net[4]
        groups = [{"params": [first.weight], "lr": 0.2}, {"params": [first.bias]}]
        sgd = torch.optim.SGD(groups, lr=0.1)
        adam = torch.optim.Adam(last.parameters())
        parts = [LinearLR(sgd, 0.5), LambdaLR(sgd, lambda epoch: 0.9**epoch)]
        return [sgd, adam], [
            SequentialLR(sgd, parts, [2]),
            CosineAnnealingLR(adam, 3),
            {"scheduler": StepLR(adam, 1), "interval": "step", "frequency": 2},
        ]


def test_a_run_with_schedules_says_which_they_are(tmp_path: Path) -> None:
    run = train(tmp_path / "run", module=Scheduled, rounds=0)
    text = Page(html_of({"ticket": [run]}, tmp_path)).text
    for words in (
        "SGD lr 0.1, groups [(parameters 1, lr 0.2), (parameters 1)]; Adam lr 0.001",
        "SequentialLR schedulers [(LinearLR start_factor 0.5, ",
        "CosineAnnealingLR T_max 3, ",
        "StepLR step_size 1, gamma 0.1, interval step, frequency 2",
    ):
        assert words in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("name"), inner, max_size=3)
    ),
    max_leaves=8,
)
WHOLE = st.fixed_dictionaries({"name": st.text(), "x": JSON})


@given(hyperparameters=JSON, data=JSON, schedules=st.lists(st.text() | WHOLE), optimizers=st.lists(WHOLE))
def test_settings_of_any_kind_are_said(
    seeds: list[Run], hyperparameters: Any, data: Any, schedules: Any, optimizers: Any
) -> None:
    run = Run(seeds[0].path)
    given = {"hyperparameters": hyperparameters, "data": data}
    things = {"lr_schedulers": schedules, "optimizers": optimizers}
    run.info = replace(run.info, settings=Settings.of({**run.info.settings.stored, **given, **things}))
    assert all(isinstance(value, str) for _, value in facts.facts([run]))


def test_runs_of_two_versions_differ_in_what_both_recorded(seeds: list[Run]) -> None:
    new = Run(seeds[0].path)
    settings = new.info.settings.stored
    named = {**settings, "lr_schedulers": ["StepLR"]}
    whole = {**settings, "lr_schedulers": [{"name": "StepLR", "gamma": 0.5}]}
    del named["val_check_interval"]
    for first, second in ((named, whole), (whole, named)):
        runs = [Run(seeds[0].path), Run(seeds[1].path)]
        for run, known in zip(runs, (first, second), strict=True):
            run.info = replace(run.info, settings=Settings.of(known))
        assert not any("differ" in note for note in facts.notes(runs))
        others = Settings.of({**second, "max_epochs": 9, "hyperparameters": {"a": 1}})
        runs[1].info = replace(runs[1].info, settings=others)
        (note,) = [note for note in facts.notes(runs) if "differ" in note]
        assert "max_epochs" in note and "hyperparameters" in note


def summaries(values: Sequence[float | None], mode: str = "max") -> list[Any]:
    """Rounds of a run whose monitored metric and its test counterpart have these values."""
    found = []
    for round, value in enumerate(values):
        record = Record("val_acc", mode)
        if value is not None:
            record.add(10, 1, {"val_acc": value})
        record.best_test = {"test_acc": math.nan if value is None else value}
        summary = zoo.summary_of(record, round, Masks.ones({"w": torch.empty(10)}))
        found.append(replace(summary, density=0.8**round, kept=round))
    return found


VALUES = st.integers(2, 6).flatmap(
    lambda rounds: st.lists(
        st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=rounds, max_size=rounds), min_size=1, max_size=4
    )
)


@given(VALUES)
def test_the_best_round_is_what_it_is_called(values: list[list[float]]) -> None:
    found = Findings([summaries(run) for run in values])
    means = [sum(column) / len(values) for column in zip(*values, strict=True)]
    assert found.best is not None
    assert means[found.best] == pytest.approx(max(means[1:]))


@given(VALUES)
def test_where_less_is_better_everything_is_turned_round(values: list[list[float]]) -> None:
    up = Findings([summaries(run) for run in values])
    down = Findings([summaries([-v for v in run], "min") for run in values])
    assert up.best == down.best
    assert [len(text) > 0 for text in up.sentences()] == [True] * len(up.sentences())


@given(VALUES)
def test_one_run_has_no_interval_and_several_have(values: list[list[float]]) -> None:
    words = " ".join(Findings([summaries(run) for run in values]).sentences())
    assert (f"means over {len(values)} runs" in words) == (len(values) > 1)


@given(VALUES)
def test_runs_alone_are_data_without_claims(values: list[list[float]]) -> None:
    """However they come out: what is better, or as good, is for a study to say, with its pairs and its controls."""
    found = Findings([summaries(run) for run in values])
    words = [*found.sentences(), *(f"{card.label} {card.note}" for card in found.cards())]
    claims = ("as good as", "better than chance", "is worse", "cannot tell")
    assert [text for text in words if any(claim in text for claim in claims)] == [words[len(found.sentences()) - 1]]
    assert "this page does not say" in found.sentences()[-1]


@given(st.integers(2, 5), st.integers(0, 20))
def test_runs_without_a_spread_have_no_interval(runs: int, value: int) -> None:
    found = Findings([summaries([value / 20, value / 20]) for _ in range(runs)])
    words = " ".join([*found.sentences(), *(card.note for card in found.cards())])
    assert "nan" not in words and "(" not in words
    assert all(row[4] == "-" and "(" not in row[6] for row in found.table().rows)


def test_a_gap_in_the_metric_is_a_gap() -> None:
    run = summaries([0.5, None, 0.7])
    found = Findings([run])
    assert found.best == 2
    assert best_ticket(run, found.metric) is run[2]
    lost = Findings([run, summaries([0.6, None, 0.8, 0.9])])
    assert lost.table().rows[1][3:5] == ["-", "-"] and len(lost.table().rows) == 4


def test_a_listing_goes_on_past_what_is_damaged(seeds: list[Run], tmp_path: Path) -> None:
    def copied(name: str) -> Path:
        for path, (data, _) in files(seeds[0].path).items():
            target = tmp_path / name / path.relative_to(seeds[0].path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return tmp_path / name

    for name in ("run-10", "run-2", "deep/er/run-1"):
        copied(name)
    (copied("bad-1") / "manifest.json").write_text("{")
    (copied("bad-2") / "manifest.json").unlink()
    (copied("bad-3") / "rounds/01/summary.json").write_text("")
    seeds[0].ticket(2).save(tmp_path / "two.ticket")
    (tmp_path / "bad.ticket").write_bytes(b"no ticket")
    (tmp_path / "else" / "rounds").mkdir(parents=True)
    (tmp_path / "else" / "manifest.json").write_text("[]")

    found = listing.entries(tmp_path)
    assert [str(e.path.relative_to(tmp_path)) for e in found] == (
        ["bad-1", "bad-2", "bad-3", "bad.ticket", "deep/er/run-1", "run-2", "run-10", "two.ticket"]
    )
    for entry in found:
        damaged = entry.path.name.startswith("bad")
        assert (entry.status == "damaged") == damaged == (entry.wrong is not None)
        assert not damaged or str(entry.path) in (entry.wrong or "")
    run, ticket = found[5], found[7]
    assert run.rounds == 3 and run.dense == seeds[0].table()["best_val_acc"][0]
    assert list(run.values) == seeds[0].table()["best_val_acc"].tolist()
    assert ticket.round == 2 and ticket.density == seeds[0].ticket(2).density


def test_a_listing_reads_no_tensor_of_a_run(seeds: list[Run], tmp_path: Path) -> None:
    for path, (data, _) in files(seeds[0].path).items():
        if path.suffix == ".json":
            target = tmp_path / path.relative_to(seeds[0].path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    (entry,) = listing.entries(tmp_path)
    (whole,) = listing.entries(seeds[0].path)
    assert entry.status == "finished" and entry.values == whole.values


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_narrow_terminal_shows_whole_cells(width: int, seeds: list[Run]) -> None:
    root = seeds[0].path.parent
    for view in (
        views.listing_view(listing.entries(root), root),
        views.run_view(seeds[0]),
        views.ticket_view(seeds[0].ticket(2)),
    ):
        out = rich.console.Console(width=width, file=io.StringIO(), markup=False)
        out.print(view)
        said = out.file.getvalue()  # type: ignore[attr-defined]
        assert "…" not in said and max(map(len, said.splitlines())) <= width
        assert seeds[0].path.name in said or "net.0.weight" in said


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere does not exist.*lottery run"):
        listing.entries(tmp_path / "nowhere")
    assert listing.entries(tmp_path) == []


@example([1.7976931348623157e308, -9.9792015476736e291])
@given(st.lists(st.none() | st.floats(), max_size=40))
def test_a_sparkline_is_higher_where_the_value_is(values: list[float | None]) -> None:
    line = sparkline(values)
    assert len(line) == len(values)
    shown = [
        (value, block) for value, block in zip(values, line, strict=True) if value is not None and math.isfinite(value)
    ]
    assert line.count(" ") == len(values) - len(shown)
    heights = [block for _, block in sorted(shown, key=lambda pair: pair[0])]
    assert heights == sorted(heights)


@given(st.floats(0, 1), st.integers(1, 20))
def test_a_bar_is_as_long_as_its_share(share: float, width: int) -> None:
    drawn = bar(share, width)
    assert len(drawn) == width and (drawn.strip() == "") == (share * width * 8 <= 1e-9)
    assert abs(drawn.count("█") - share * width) <= 1 + 1e-6


def test_the_same_run_gives_the_same_picture(seeds: list[Run]) -> None:
    drawing = figures.of_arm(seeds[:1])[1]
    first, second = (figures.draw(drawing, vector=True) for _ in range(2))
    assert isinstance(first, figures.Image)
    assert isinstance(second, figures.Image) and first.data == second.data
    assert matplotlib.rcParams["svg.hashsalt"] is None
