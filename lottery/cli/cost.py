"""`lottery cost`: what a ticket saves, measured on this device."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lottery import storage
from lottery.cli import network, recipe_arguments
from lottery.cli.outputs import check_new
from lottery.text import terminal
from lottery.text.tables import TextTable

if TYPE_CHECKING:
    from lottery.cli.network import Network
    from lottery.deploy.costs.variants import Cost

USAGE = "lottery cost RECIPE [OPTION ...] [--SETTING VALUE ...]"

DESCRIPTION = f"""\
What a ticket saves, side by side: parameters, bytes on disk, FLOPs, and latency
and memory as measured on this device. Then in words what was gained and what not.

dense      no weight pruned
masked     zeros in place of what is pruned, same shapes
compacted  without the units that nothing writes or nothing reads
sparse     masked, in a sparse file, on sparse kernels where these are faster
both       compacted, then sparse

{network.WHICH}"""

EPILOG = """\
Latency is measured with the threads that the recipe sets. It takes about 3 s for
each batch size and round; close what else runs.

examples:
  lottery cost recipes/digits.yaml                         the last round of its run
  lottery cost recipes/digits.yaml --rounds 0,4,8          a row for each round
  lottery cost recipes/digits.yaml --batch-sizes 1,16,256 -o cost.md
  lottery cost recipes/digits.yaml --no-latency            sizes and FLOPs, at once
  lottery cost recipes/fashion_resnet.yaml --device cuda --json cost.json
"""


@dataclass(frozen=True)
class _Page:
    """What the Markdown page shows."""

    origin: str
    tables: Sequence[TextTable]
    words: Mapping[str, Sequence[str]]
    data: str
    torch: str
    date: str
    command: str


def cost(arguments: list[str]) -> int:
    """Run `lottery cost` with its arguments; returns the exit status."""
    parser = options_parser()
    if (status := recipe_arguments.help_status(parser, arguments)) is not None:
        raise SystemExit(status)
    known, recipe, overrides = recipe_arguments.parse(parser, arguments)
    rounds = _rounds(known)
    _check(known)
    networks = network.read_rounds(known, recipe, overrides, rounds)
    with _progress() as say:
        costs = {"" if one.round is None else str(one.round): _measured(one, known, say) for one in networks}
    page = _page(networks, costs, arguments)
    _show(page)
    if known.json is not None:
        found = {
            "command": page.command,
            "origin": page.origin,
            "data": page.data,
            "rounds": [
                {"round": one.round, "origin": one.origin, **cost.described(), "words": words}
                for one, cost, words in zip(networks, costs.values(), page.words.values(), strict=True)
            ],
        }
        storage.write(known.json, storage.encode_json(found))
    if known.output is not None:
        from lottery.report import page as pages

        pages.write(page, "cost", known.output, {})
    return 0


def options_parser() -> argparse.ArgumentParser:
    """The command's own options; what it does not know are settings of the recipe."""
    parser = recipe_arguments.parser("cost", USAGE, DESCRIPTION, EPILOG)
    network.add_arguments(parser)
    add = parser.add_argument
    add("--rounds", metavar="R,R,...", help="several rounds of the run, a row for each")
    add(
        "--batch-sizes",
        default="1,64",
        metavar="N,N,...",
        help="at which to measure latency and memory (default: 1,64)",
    )
    add("--no-latency", action="store_true", help="measure neither, nor sparse kernels")
    add("--device", metavar="NAME", help="where to measure: cpu (default) or cuda")
    add("--keep", nargs="+", default=[], metavar="PATTERN", help="globs of layers whose units stay in compaction")
    add("--seconds", type=float, default=3.0, metavar="S", help="to time at each batch size, about (default: 3)")
    add("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    add("-o", "--output", type=Path, metavar="FILE", help="write a page, FILE.md")
    return parser


def _measured(one: Network, known: argparse.Namespace, say: Callable[[str], None]) -> Cost:
    from lottery.deploy.costs.cost import cost

    which = "" if one.round is None else f"round {one.round}: "
    return cost(
        one.module,
        one.masks,
        one.example,
        _numbers("--batch-sizes", known.batch_sizes),
        keep=known.keep,
        measured=not known.no_latency,
        device=known.device,
        seconds=known.seconds,
        say=lambda what: say(which + what),
    )


def _rounds(known: argparse.Namespace) -> list[int | None]:
    if known.rounds is None:
        return [known.round]
    if known.round is not None:
        raise ValueError("--round and --rounds: give one of them")
    return list(dict.fromkeys(_numbers("--rounds", known.rounds)))


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text}: write numbers and commas, such as 1,64") from None


def _check(known: argparse.Namespace) -> None:
    """Refuse what is wrong before anything is loaded."""
    from lottery.deploy.costs.cost import check_batch_sizes, check_device
    from lottery.report.page import MARKDOWN, is_markdown

    check_batch_sizes(_numbers("--batch-sizes", known.batch_sizes))
    if known.device is not None:
        check_device(known.device)
    if not known.seconds > 0:
        raise ValueError(f"--seconds {known.seconds:g} must be positive")
    if known.output is not None and not is_markdown(known.output):
        raise ValueError(f"{known.output}: the page is Markdown; write a name that ends in {MARKDOWN[0]}")
    check_new(known.json, known.output)


def _page(networks: Sequence[Network], costs: Mapping[str, Cost], arguments: list[str]) -> _Page:
    import datetime

    import torch

    from lottery.deploy.costs import tables
    from lottery.deploy.costs.sentences import sentences

    first = next(iter(costs.values()))
    if len(costs) > 1:
        known = {str(one.round): one.metric for one in networks if one.metric}
        metric = next((name for name, _ in known.values()), "")
        values = {number: value for number, (_, value) in known.items()}
        shown = [tables.rounds_table(costs, metric, values)]
        shown += [tables.paces_table(costs)] if first.batch_sizes else []
        *most, last = costs
        origin = networks[0].origin.replace(f"round {most[0]} ", f"rounds {', '.join(most)} and {last} ")
    else:
        shown = [tables.size_table(first)]
        shown += [tables.time_table(first)] if first.batch_sizes else []
        shown += [tables.encoding_table(first)]
        origin = networks[0].origin
    return _Page(
        origin,
        shown,
        {f"Round {name}" if name else "": sentences(found) for name, found in costs.items()},
        networks[0].data,
        torch.__version__,
        datetime.date.today().isoformat(),
        shlex.join(["lottery", "cost", *arguments]),
    )


def _show(page: _Page) -> None:
    terminal.show(f"{page.origin}; measured with {page.data}")
    for found in page.tables:
        table = terminal.light_table(found.header)
        for row in found.rows:
            table.add_row(*row)
        terminal.show(table)
        terminal.show(found.caption)
        terminal.show("")
    for name, sentences in page.words.items():
        if len(page.words) > 1:
            terminal.show(name)
        for sentence in sentences:
            terminal.show(f"- {sentence}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows in a terminal, on stderr, what is being done."""
    from rich.console import Console

    terminal = Console(stderr=True, highlight=False, markup=False)
    if not terminal.is_terminal:
        yield lambda what: None
        return
    with terminal.status("reading") as status:
        yield lambda what: status.update(what)
