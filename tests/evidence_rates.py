"""How often the verdict on a study errs, by simulation: the tables of `docs/statistics.md`.

    python -m tests.evidence_rates            all of it, in some minutes, written into docs/statistics.md
    python -m tests.evidence_rates --small    a few seconds, only shown
    python -m tests.evidence_rates power      one of the tables

Every truth is simulated as arrays, studies x (controls x) rounds x seeds, and judged by the functions that `Evidence`
calls; `tests/studies/test_evidence_rates.py` has that these say what `Evidence` says. A difference of two trainings has
a standard deviation of 1, and the margin is 2.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lottery.foundations.statistics.family import holm, intersection
from lottery.foundations.statistics.paired import Paired
from lottery.foundations.statistics.shares import share_interval
from lottery.studies.evidence.collapse import collapse_of
from lottery.studies.evidence.decision import ordered, p_values, primary, secondary
from lottery.studies.evidence.forecast import LIKELY, chances

Array = NDArray[np.float64]

LEVEL, MARGIN, CONTROLS = 0.05, 2.0, 2
PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
SEEDS, ROUNDS = (3, 5, 8, 15), (6, 13, 17)


@dataclass(frozen=True)
class Truth:
    """What is true of the studies that are drawn.

    Args:
        gain: of the ticket over dense, by round.
        over: of the ticket over each control: controls x rounds.
        kind: how trainings of a ticket differ between seeds.
        images: how many test images there are; 0 for no rounding.
        missing: the share of a control's trainings that are absent.
        failing: the share of the ticket's trainings that fail.
    """

    gain: Array
    over: Array
    kind: str = "normal"
    images: int = 0
    missing: float = 0.0
    failing: float = 0.0

    def draw(self, rng: np.random.Generator, studies: int, seeds: int) -> tuple[Array, Array]:
        """Gains over dense, studies x rounds x seeds, and over the controls, controls x studies x rounds x seeds."""
        rounds = len(self.gain)
        ticket = _noise(rng, self.kind, (studies, rounds, seeds))
        dense = rng.standard_normal((studies, 1, seeds))
        control = rng.standard_normal((CONTROLS, studies, rounds, seeds))
        if self.kind == "shared":  # a seed that suits the ticket, in all rounds
            ticket = (ticket + 2 * rng.standard_normal((studies, 1, seeds))) / np.sqrt(5)
        ticket, dense = ticket / np.sqrt(2) + self.gain[:, None], dense / np.sqrt(2)
        control = ticket * 0 + control / np.sqrt(2) + (self.gain - self.over)[:, None, :, None]
        if self.images:  # one image is half of a spread of 360, a fiftieth of 10,000
            unit = 200 / self.images
            phase = rng.uniform(0, unit, (studies, 1, 1))
            ticket, dense, control = (np.round((x + phase) / unit) * unit for x in (ticket, dense, control))
        control[rng.random(control.shape) < self.missing] = np.nan
        ticket[rng.random(ticket.shape) < self.failing] = -np.inf
        return ticket - dense, ticket - control


def _noise(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    if kind == "t3":
        return rng.standard_t(3, shape) / np.sqrt(3)
    if kind == "bad seeds":
        return 1 - rng.exponential(size=shape)
    if kind == "good seeds":
        return rng.exponential(size=shape) - 1
    return rng.standard_normal(shape)


def at_the_edge(rounds: int, **options: object) -> Truth:
    """Nothing is true: at the margin below dense, like its controls, everywhere."""
    return Truth(np.full(rounds, -MARGIN), np.zeros((CONTROLS, rounds)), **options)  # type: ignore[arg-type]


def halves(rounds: int, **options: object) -> Truth:
    """The dense half matches and equals one control; the sparse half beats both and is at the margin."""
    dense = np.arange(rounds) < rounds // 2
    over = np.where(dense, [[0.0], [6.0]], 6.0)
    return Truth(np.where(dense, 2.0, -MARGIN), over, **options)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[int], Truth]] = {
    "normal": at_the_edge,
    "half of the rounds each way": halves,
    "heavy tails (t, 3 degrees)": lambda r: at_the_edge(r, kind="t3"),
    "a tail of bad seeds (exponential)": lambda r: at_the_edge(r, kind="bad seeds"),
    "a tail of good seeds (exponential)": lambda r: at_the_edge(r, kind="good seeds"),
    "seeds shared by rounds": lambda r: at_the_edge(r, kind="shared"),
    "360 images": lambda r: at_the_edge(r, images=360),
    "10,000 images": lambda r: at_the_edge(r, images=10_000),
    "15 % of controls missing": lambda r: at_the_edge(r, missing=0.15),
    "20 % of tickets failing": lambda r: at_the_edge(r, failing=0.2),
}


@dataclass(frozen=True)
class Judged:
    """What is shown: studies x rounds; of `wins` and `close` controls x studies x rounds."""

    winning: NDArray[np.bool_]
    matching: NDArray[np.bool_]
    better: NDArray[np.bool_]
    below: NDArray[np.bool_]
    worse: NDArray[np.bool_]
    wins: NDArray[np.bool_]
    close: NDArray[np.bool_]
    equalled: NDArray[np.bool_]


def judge(dense: Array, control: Array, stages: Sequence[Array] | None = None, margin: float = MARGIN) -> Judged:
    """What `Claims` shows of many studies at once."""
    stages = [np.arange(dense.shape[-1])] if stages is None else stages
    look, rounding = len(stages), 1e-9

    def p(gains: Array, bound: float, below: bool = False) -> Array:
        return p_values(-gains if below else gains, stages, -bound if below else bound, rounding)

    def families(raw: Array) -> NDArray[np.bool_]:
        flat = np.moveaxis(raw, 0, 1).reshape(raw.shape[1], -1)
        shown = secondary(flat, look) <= LEVEL
        return np.moveaxis(shown.reshape(raw.shape[1], raw.shape[0], -1), 1, 0)

    better, close = p(control, 0.0), p(control, margin, below=True)
    matching = p(dense, -margin)
    winning = primary(matching, list(better), look) <= LEVEL
    return Judged(
        winning,
        ordered(matching, look) <= LEVEL,
        secondary(intersection(better), look) <= LEVEL,
        secondary(p(dense, -margin, below=True), look) <= LEVEL,
        secondary(p(dense, 0.0, below=True), look) <= LEVEL,
        families(better),
        families(close),
        ordered(intersection(close), look) <= LEVEL,
    )


def before(dense: Array, control: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What was shown when matching, and better than required controls, were two families by Holm, at one level each."""
    p = Paired(control, 1e-9).p_above()
    flat = holm(np.moveaxis(p, 0, 1).reshape(p.shape[1], -1)) <= LEVEL
    return holm(Paired(dense, 1e-9).p_above(-MARGIN)) <= LEVEL, flat.reshape(p.shape[1], CONTROLS, -1).all(1)


def rate(found: NDArray[np.bool_]) -> float:
    """The share of studies in which anything is so."""
    return float(found.reshape(len(found), -1).any(1).mean())


# false claims


def false_claims(truth: Truth, seeds: int, studies: int, rng: np.random.Generator) -> dict[str, float]:
    """How often a study makes a false claim of each kind."""
    dense, control = truth.draw(rng, studies, seeds)
    found = judge(dense, control)
    not_matching, not_better = truth.gain <= -MARGIN, (truth.over <= 0).any(0)
    apart = truth.over[:, None] >= MARGIN
    if truth.failing:  # and so is truly worse: what else is false is not known
        return {"winning": rate(found.winning), "matching": rate(found.matching)}
    return {
        "winning": rate(found.winning & (not_matching | not_better)),
        "matching": rate(found.matching & not_matching),
        "better": rate(np.moveaxis(found.wins & (truth.over <= 0)[:, None], 0, 1)),
        "below": rate(found.below & (truth.gain >= -MARGIN)),
        "worse": rate(found.worse & (truth.gain >= 0)),
        "close": rate(np.moveaxis(found.close & apart, 0, 1)),
        "as well": rate(found.equalled & apart.any(0)),
    }


def other_way(truth: Truth) -> Truth:
    """The same noise where the other families have nothing to claim: like dense, its controls a margin behind."""
    return replace(truth, gain=np.zeros_like(truth.gain), over=np.full_like(truth.over, MARGIN))


def table_of_false_claims(studies: int, seeds: Sequence[int], rounds: Sequence[int]) -> Iterator[str]:
    names = ("winning", "matching", "better", "below", "worse", "close", "as well")
    yield _row("truth", *(f"false {name!r}" for name in names))
    yield _rule(len(names) + 1)
    for place, (kind, make) in enumerate(KINDS.items()):
        worst: dict[str, list[float]] = {name: [] for name in names}
        for number in rounds:
            for count in seeds:
                rng = np.random.default_rng([place, number, count])
                found = false_claims(make(number), count, studies, rng)
                there = false_claims(other_way(make(number)), count, studies, rng)
                for name in found:
                    worst[name].append(100 * max(found[name], 0 if make(number).failing else there[name]))
        yield _row(kind, *(f"{min(all_):.1f} to {max(all_):.1f}" if all_ else "-" for all_ in worst.values()))


# power


def table_of_power(studies: int, seeds: Sequence[int], rounds: Sequence[int]) -> Iterator[str]:
    yield _row("seeds", "rounds", *(f"{e:g} sd: any, rounds" for e in (0.5, 1, 2, 3)), "matching, rounds")
    yield _rule(7)
    for count in seeds:
        for number in rounds:
            cells = []
            for effect in (0.5, 1.0, 2.0, 3.0):
                rng = np.random.default_rng([count, number])
                truth = Truth(np.zeros(number), np.full((CONTROLS, number), effect))
                dense, control = truth.draw(rng, studies, count)
                found, (matching, better) = judge(dense, control), before(dense, control)
                now, then = found.winning, matching & better
                cells.append(f"{100 * rate(now):.0f} ({100 * rate(then):.0f}), {now.sum(1).mean():.1f}")
                cells[-1] += f" ({then.sum(1).mean():.1f})"
            yield _row(
                str(count), str(number), *cells, f"{found.matching.sum(1).mean():.1f} ({matching.sum(1).mean():.1f})"
            )


# growing


def grown(
    truth: Truth, seeds: int, added: Sequence[int], studies: int, rng: np.random.Generator, once: bool, match: bool
) -> float:
    """How often a study is falsely said to win at any of its looks.

    Args:
        added: by how many seeds it is grown, again and again, until it shows something: few of them where the last look
            was near to showing it, many otherwise.
        once: whether all seeds are judged at once each time, at the whole level, as it was before.
        match: whether it is grown to match, or to win.
    """
    dense, control = truth.draw(rng, studies, seeds + len(added) * max(added))
    false = np.zeros(studies, dtype=bool)
    open_ = np.ones(studies, dtype=bool)
    until = np.full(studies, seeds)
    cuts = [np.zeros(studies, dtype=int), until.copy()]
    for _ in range(len(added) + 1):
        for pattern in np.unique(np.array(cuts).T[open_], axis=0):
            here = open_ & (np.array(cuts).T == pattern).all(1)
            stages = [np.arange(a, b) for a, b in itertools.pairwise(pattern)]
            d, c = dense[here][..., : pattern[-1]], control[:, here][..., : pattern[-1]]
            if once:
                matching, better = before(d, c)
                winning = matching & better
            else:
                found = judge(d, c, stages)
                winning, matching = found.winning, found.matching
            shown = matching if match else winning
            wrong = truth.gain <= -MARGIN if match else (truth.gain <= -MARGIN) | (truth.over <= 0).any(0)
            false[here] |= (shown & wrong).any(1)
            open_[here] &= ~shown.any(1)
            near = Paired(d).p_above(-MARGIN).min(1) < 0.2
            cuts_here = np.where(near, min(added), max(added))
            until[here] += cuts_here
        cuts.append(np.minimum(until, dense.shape[-1]).copy())
        if not open_.any():
            break
    return float(false.mean())


def table_of_growing(studies: int) -> Iterator[str]:
    yield _row("a study that is grown until it shows something", "false", "before")
    yield _rule(3)
    for name, make, match in (
        ("matching, at the margin in all rounds", at_the_edge, True),
        ("winning, half of the rounds each way", halves, False),
    ):
        for looks, added in ((2, (5,)), (4, (3, 10, 10)), (10, (3, 3, 3, 3, 3, 3, 3, 3, 5))):
            cells = [
                100 * grown(make(6), 5, added, studies, np.random.default_rng(looks), once, match)
                for once in (False, True)
            ]
            yield _row(f"{name}, up to {looks} looks", *(f"{cell:.1f}" for cell in cells))


# trainings that fail or collapse


def table_of_failures(studies: int) -> Iterator[str]:
    yield _row("of a ticket that wins when it trains", "3 seeds", "5 seeds", "8 seeds", "15 seeds")
    yield _rule(5)
    failed, collapsed, covered = [], [], []
    for seeds in SEEDS:
        rng = np.random.default_rng(seeds)
        truth = Truth(np.full(6, 4.0), np.full((CONTROLS, 6), 8.0), failing=0.2)
        dense, control = truth.draw(rng, studies, seeds)
        found = judge(dense, control)
        failed.append(rate(found.winning & np.isneginf(dense).any(-1)))
        dense, control = replace(truth, failing=0.0).draw(rng, studies, seeds)
        drop = np.where(rng.random(dense.shape) < 0.1, 40.0, 0.0)
        found = judge(dense - drop, control - drop)
        counts = [collapse_of(each, MARGIN) for each in (dense - drop)]
        unsaid = np.array([count is None or not count.collapsed for count in counts])
        collapsed.append(float((found.winning.any(1) & unsaid).mean()))
        hit = 1 - 0.9**6
        ends = [share_interval(int(c), seeds) for c in (drop > 0).any(1).sum(1)]
        covered.append(np.mean([low <= hit <= high for low, high in ends]))
    yield _row("20 % fail: a round with a failure called winning", *_percents(failed))
    yield _row("10 % collapse: called winning, collapse not said", *_percents(collapsed))
    yield _row("... the interval of collapsing seeds holds the truth", *_percents(covered))


# intervals


def table_of_coverage(studies: int) -> Iterator[str]:
    yield _row("interval", *(f"{seeds} seeds" for seeds in SEEDS))
    yield _rule(1 + len(SEEDS))
    for kind in ("normal", "t3", "bad seeds"):
        alone, at_once, last, bound, cut = [], [], [], [], []
        for seeds in SEEDS:
            rng = np.random.default_rng([seeds, len(kind)])
            truth = Truth(np.full(6, -1.0), np.full((CONTROLS, 6), 0.5), kind=kind)
            dense, control = truth.draw(rng, studies, seeds)
            found, gains = judge(dense, control), Paired(control[0])
            low, high = gains.interval(LEVEL)
            alone.append(float(((low <= 0.5) & (0.5 <= high)).mean()))
            low, high = gains.interval(LEVEL / 6)
            holds = (low <= 0.5) & (0.5 <= high)
            at_once.append(float(holds.all(1).mean()))
            picked = np.where(found.wins[0], np.arange(6), -1).max(1)
            there = picked >= 0
            right = holds[np.arange(studies), picked]
            last.append(1 - float((there & ~right).mean()))
            cut.append(float(right[there].mean()) if there.sum() > 30 else np.nan)
            from scipy import stats

            own = Paired(dense)
            worst = stats.t.isf(LEVEL * 0.8, seeds - 1) * own.error - own.mean
            bound.append(float((worst >= 1.0).mean()))
        yield _row(f"a gain by itself, {kind}", *_percents(alone))
        yield _row(f"gains of all rounds at once, {kind}", *_percents(at_once))
        yield _row(f"printed gain of the last round shown better: studies without an error, {kind}", *_percents(last))
        yield _row(f"... of the studies that print one (true gain half a spread), {kind}", *_percents(cut))
        yield _row(f"largest loss not excluded, {kind}", *_percents(bound))


# learning speed


def curves(rng: np.random.Generator, shape: tuple[int, ...], slower: float = 1.0) -> Array:
    """Validation accuracy at 60 steps: it rises, each training at a pace of its own, and is measured with noise."""
    pace = np.exp(0.25 * rng.standard_normal((*shape, 1))) * slower
    rise = 1 - np.exp(-np.arange(1, 61) / (12 * pace))
    return rise + 0.01 * rng.standard_normal((*shape, 60))


def table_of_speed(studies: int) -> Iterator[str]:
    yield _row("truth", "ratio", *(f"coverage, {seeds} seeds" for seeds in SEEDS), "before: ratio, coverage")
    yield _rule(3 + len(SEEDS))
    for name, slower in (("the same process", 1.0), ("1.3 times slower", 1.3), ("half the steps", 0.5)):
        covered, ratios, old = [], [], ""
        for seeds in SEEDS:
            rng = np.random.default_rng(seeds)
            dense, ticket = curves(rng, (studies, seeds)), curves(rng, (studies, seeds), slower)
            level = np.minimum(dense.max(-1), ticket.max(-1))[..., None] - 0.01
            took = [(each >= level).argmax(-1) + 1 for each in (ticket, dense)]
            found = Paired(np.log(took[0]) - np.log(took[1]))
            low, high = found.interval(LEVEL)
            truth = np.log(slower)
            ratios.append(np.exp(found.mean.mean()))
            covered.append(float(((low <= truth) & (truth <= high)).mean()))
            top = dense.max(-1)[..., None]
            there = (ticket >= top).any(-1)
            past = np.where(there, np.log((ticket >= top).argmax(-1) + 1) - np.log(dense.argmax(-1) + 1), np.nan)
            low, high = Paired(past).interval(LEVEL)
            holds = ((low <= truth) & (truth <= high))[np.isfinite(low)].mean()
            old = f"{np.exp(np.nanmean(past)):.2f}, {100 * holds:.0f}"
        yield _row(name, f"{np.mean(ratios):.2f}", *_percents(covered), f"{old} ({SEEDS[-1]} seeds)")


# forecasts


def forecasts(pilot: int, studies: int, futures: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """What is said of the next look, at several numbers of seeds, and how often it then was so; whether it is proposed.

    The truths are spread evenly: gains over dense of 0 to 4 beyond the margin, over controls of -1 to 4.
    """
    said, seen, proposed = [], [], []
    while len(said) < studies:
        truth = Truth(np.full(6, rng.uniform(0, 4) - MARGIN), np.full((CONTROLS, 6), rng.uniform(-1, 4)))
        dense, control = truth.draw(rng, 1, pilot)
        if judge(dense, control).winning.any():
            continue
        gains = np.concatenate([dense, control[:, 0]])
        own = Paired(gains)
        p = np.concatenate([Paired(dense).p_above(-MARGIN), Paired(control[:, 0]).p_above()])
        told = chances(own.mean, own.spread, own.seeds, [p], LEVEL, MARGIN, 2)
        first = next((one for one in told if one.chance >= LIKELY and one.known), None)
        row = []
        for one in [told[2], told[5], told[8], first or told[0]]:
            d, c = truth.draw(rng, futures, one.added)
            d = np.concatenate([np.broadcast_to(dense, (futures, 6, pilot)), d], -1)
            c = np.concatenate([np.broadcast_to(control, (CONTROLS, futures, 6, pilot)), c], -1)
            stages = [np.arange(pilot), np.arange(pilot, pilot + one.added)]
            row.append((one.chance, float(judge(d, c, stages).winning.any(1).mean())))
        said.append([chance for chance, _ in row])
        seen.append([share for _, share in row])
        proposed.append(first is not None)
    return np.array(said), np.array(seen), np.array(proposed)


def named_where_nothing_is(pilot: int, studies: int, rng: np.random.Generator) -> float:
    """How often a number of seeds is proposed where the ticket is like its controls."""
    named = 0
    for _ in range(studies):
        dense, control = Truth(np.zeros(6), np.zeros((CONTROLS, 6))).draw(rng, 1, pilot)
        own = Paired(np.concatenate([dense, control[:, 0]]))
        p = np.concatenate([Paired(dense).p_above(-MARGIN), Paired(control[:, 0]).p_above()])
        told = chances(own.mean, own.spread, own.seeds, [p], LEVEL, MARGIN, 2)
        named += any(one.chance >= LIKELY and one.known for one in told)
    return named / studies


def table_of_forecasts(studies: int, futures: int) -> Iterator[str]:
    bins = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01))
    spans = [f"said {100 * low:.0f} to {min(100 * high, 100):.0f}" for low, high in bins]
    yield _row("pilot", *spans, "number of seeds proposed: said, attained", "proposed where nothing is there")
    yield _rule(len(bins) + 3)
    for pilot in (3, 5, 8):
        rng = np.random.default_rng(pilot)
        said, seen, proposed = forecasts(pilot, studies, futures, rng)
        flat, truth = said[:, :3].ravel(), seen[:, :3].ravel()
        cells = []
        for low, high in bins:
            here = (flat >= low) & (flat < high)
            cells.append(f"{100 * flat[here].mean():.0f}: {100 * truth[here].mean():.0f}" if here.sum() > 9 else "-")
        at = f"{100 * said[proposed, 3].mean():.0f}, {100 * seen[proposed, 3].mean():.0f}" if proposed.any() else "-"
        nothing = 100 * named_where_nothing_is(pilot, max(6, studies // 3), rng)
        yield _row(f"{pilot} seeds", *cells, f"{at} (in {100 * proposed.mean():.0f})", f"{nothing:.0f}")


# the page


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---" + "|--:" * (columns - 1) + "|"


def _percents(shares: Sequence[float]) -> list[str]:
    return ["-" if np.isnan(share) else f"{100 * share:.1f}" for share in shares]


def tables(small: bool) -> dict[str, Callable[[], Iterator[str]]]:
    """Each table by the name that marks its place in the page."""
    n = 400 if small else 2000
    rounds = ROUNDS[:1] if small else ROUNDS
    return {
        "false claims": lambda: table_of_false_claims(n, SEEDS, rounds),
        "growing": lambda: table_of_growing(n),
        "failures": lambda: table_of_failures(n),
        "power": lambda: table_of_power(n, SEEDS, rounds),
        "coverage": lambda: table_of_coverage(n),
        "speed": lambda: table_of_speed(n // 2),
        "forecasts": lambda: table_of_forecasts(6 if small else 80, 20 if small else 40),
    }


def written(page: str, name: str, lines: Sequence[str]) -> str:
    """A page with a table in the place that is marked for it."""
    begin, end = f"<!-- rates: {name} -->\n", f"<!-- end: {name} -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}" + "\n".join(lines) + f"\n{end}{tail}"


def main(arguments: Sequence[str]) -> None:
    small = "--small" in arguments
    chosen = [name for name in arguments if not name.startswith("-")]
    for name, make in tables(small).items():
        if chosen and name not in chosen:
            continue
        began = time.monotonic()
        lines = list(make())
        print(f"\n{name} ({time.monotonic() - began:.0f} s)\n\n" + "\n".join(lines), flush=True)
        if not small:
            PAGE.write_text(written(PAGE.read_text(), name, lines))


if __name__ == "__main__":
    main(sys.argv[1:])
