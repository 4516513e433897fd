"""`lottery prune`: a recipe's model is scored and pruned once, without training."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.cli import recipe_arguments, views
from lottery.cli.prune_options import check, options_parser, setting
from lottery.foundations.environment import versions
from lottery.runs.run import Run
from lottery.text import terminal
from lottery.text.numbers import percent
from lottery.tickets.checkpoint_file import read_weights
from lottery.tickets.ticket import Ticket

if TYPE_CHECKING:
    from lottery.pruning.graph.paths import Connectivity
    from lottery.training.prune_once import PruneOnce, Source
    from lottery.training.recipes import RecipeCLI


def prune(arguments: list[str]) -> int:
    """Run `lottery prune` with its arguments; returns the exit status."""
    parser = options_parser()
    if (status := recipe_arguments.help_status(parser, arguments)) is not None:
        return status
    known, recipe, overrides = recipe_arguments.parse(parser, arguments)
    check(known)
    given = _given(known)
    from lottery.training.recipes import load, quieten

    quieten()
    cli = load(recipe, overrides)
    once = _once(known, cli, given)
    from lottery.training.untrained import fit

    try:
        fit(cli, once)
    except KeyboardInterrupt:
        print("\nstopped. Nothing was written.")
        return 130
    if cli.trainer.is_global_zero:
        ticket = Ticket(once.masks, once.weights, _provenance(once, recipe, overrides))
        ticket.save(known.output, weights=known.weights)
        terminal.show(views.ticket_view(ticket))
        terminal.show(_in_words(once.connectivity, known.density))
        _say_what_is_next(known.output, recipe, overrides)
    return 0


def _once(known: argparse.Namespace, cli: RecipeCLI, source: Source | None) -> PruneOnce:
    """The decision that is asked for: the recipe's, changed as the options say."""
    from lottery.training.prune_once import PruneOnce

    source = source or _start(cli)
    changed: dict[str, Any] = {
        name: getattr(known, name)
        for name in ("scope", "steps", "include", "exclude", "collapse")
        if getattr(known, name) is not None
    }
    for name in ("score", "structure"):
        if getattr(known, name) is not None:
            changed[name] = setting(name, getattr(known, name))
    if known.density is not None:
        changed |= {"densities": [known.density], "amount": None, "groups": {}}
    pruning = dataclasses.replace(cli.ticket.pruning, **changed)
    index = 1 if known.density is not None else source.round + 1
    if pruning.amounts.rounds is not None and index > pruning.amounts.rounds:
        raise ValueError(
            f"the recipe has densities for {pruning.amounts.rounds} rounds, and round {source.round} is pruned: give"
            " --density"
        )
    seeds = (known.seed, source.seed, cli.ticket.seed)
    seed = next((seed for seed in seeds if seed is not None), None)
    return PruneOnce(pruning, source, index=index, seed=seed)


def _given(known: argparse.Namespace) -> Source | None:
    """The weights that the options name, if they do."""
    from lottery.training.prune_once import Source

    if known.checkpoint is not None:
        return Source(f"the weights in {known.checkpoint}", read_weights(known.checkpoint), trained=True)
    if known.run is None:
        return None
    run, number = Run(known.run), known.round
    if number is None:
        if not run.rounds:
            raise ValueError(f"{run.path} has no finished round yet")
        number = run.rounds[-1]
    return Source(
        f"the weights of round {number} of {run.path}",
        run.weights(number),
        run.masks[number],
        run.weights("initial"),
        number,
        run.info.seed,
        trained=True,
    )


def _start(cli: RecipeCLI) -> Source:
    """What `lottery run` starts from."""
    from lottery.training.prune_once import Source

    ticket = cli.ticket.ticket
    if ticket is None:
        return Source("the weights that the recipe starts from")
    return Source("the weights of the ticket", ticket.weights, ticket.masks)


def _provenance(once: PruneOnce, recipe: str, overrides: list[str]) -> dict[str, object]:
    pruning = once.pruning.described()
    told = ("scope", "steps", "include", "exclude")
    pieces = {name: _brief(pruning[name]) for name in ("score", "structure")}
    found = once.connectivity
    return {
        "command": "lottery prune",
        "recipe": shlex.join([recipe, *overrides]),
        "pruned": once.source.origin,
        "pruning": {**pieces, **{name: pruning[name] for name in told if pruning[name]}},
        "seed": once.seed,
        "seed_everything": os.environ.get("PL_GLOBAL_SEED"),
        "versions": versions(),
        "connectivity": {
            "density": found.density,
            "effective_density": found.effective_density,
            "lowest_density": found.lowest_density,
            "dead_units": sum(found.dead_units.values()),
        },
    }


def _brief(piece: object) -> str:
    """A score or structure in words: its name, then its settings."""
    if not isinstance(piece, Mapping):
        return str(piece)
    settings = [f"{key}={value}" for key, value in piece.items() if key != "name"]
    return " ".join([piece["name"], *settings])


def _in_words(found: Connectivity, asked: float | None) -> str:
    on_paths, dead = found.effective_density, sum(found.dead_units.values())
    text = f"density {percent(found.density)}"
    if asked is not None and abs(found.density - asked) > 0.01 * asked:
        text += f" ({percent(asked)} was asked for: the structure takes whole groups)"
    if on_paths is not None:
        text += f", {percent(on_paths)} on a path from input to output"
    text += f"; {dead} of {sum(found.units.values())} units dead"
    if found.empty:
        text += f"\nwarning: nothing is left of {', '.join(found.empty)} (layer collapse)"
    return text


def _say_what_is_next(output: Path, recipe: str, overrides: list[str]) -> None:
    run = shlex.join(["lottery", "run", recipe, *overrides])
    path = shlex.quote(str(output))
    dirpath = shlex.quote(str(Path("checkpoints") / output.stem))
    print(
        f"\nnext:\n  lottery inspect {path}\n  {run} --lottery.ticket {path} --lottery.rounds 0"
        f" --lottery.dirpath {dirpath}"
    )
