"""Names are those of the uncompiled module, and weights the module's own, whatever a class saves of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from torch import nn

from lottery import LotteryTicket, Masks, Pruning, Rewind, Run
from lottery.foundations.names import differences, load_weights, parameters_of, weights_of


class Compiled(zoo.Net):
    """A part is compiled, as Lightning's documentation says."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(self.net, backend="eager")


class Renamed(Compiled):
    """Saved under plain names."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name.replace("_orig_mod.", ""): t for name, t in state.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name.replace("net.", "net._orig_mod."): t for name, t in state.items()}


class Thinned(zoo.Net):
    """A part is frozen and left out of checkpoints, as with large backbones."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(zoo.INPUTS, zoo.INPUTS).requires_grad_(False)

    def forward(self, x: Any) -> Any:
        return self.net(self.backbone(x))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: t for name, t in state.items() if not name.startswith("backbone")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, tensor in self.backbone.state_dict().items():
            checkpoint["state_dict"][f"backbone.{name}"] = tensor


class Averaged(zoo.Net):
    """Checkpoints hold half of the weights' size, as those of an average do."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: t / 2 if t.is_floating_point() else t for name, t in state.items()}


class OwnStateDict(zoo.Net):
    """`state_dict` itself is the user's, with a prefix that a library's loader knows."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {f"model.{n}": t for n, t in super().state_dict(*args, **kwargs).items()}

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        own = {name.removeprefix("model."): t for name, t in state_dict.items()}
        return super().load_state_dict(own, *args, **kwargs)


SAVED = (Compiled, Renamed, Thinned, Averaged, OwnStateDict)


def train(make: Callable[[], Any], path: Path, *callbacks: Any, **arguments: Any) -> Run:
    pruning = Pruning(0.5, weights=arguments.pop("weights", "trained"))
    ticket = LotteryTicket(2, pruning, dirpath=path, keep="all", save_every="3it", **arguments)
    zoo.fit(make, ticket, *callbacks, max_epochs=2)
    return Run(path)


@pytest.mark.parametrize("make", SAVED)
def test_masks_are_of_the_modules_own_weights(make: Any, tmp_path: Path) -> None:
    """Half of the weights, by their size at the start and at the end: counted by hand."""
    for weights in ("start", "trained"):
        run = train(make, tmp_path / weights, weights=weights)
        source = run.weights("initial") if weights == "start" else run.weights(0)
        masks = run.ticket(1).masks
        assert not any("_orig_mod" in name for name in (*source, *masks))
        median = torch.cat([source[n].abs().flatten() for n in masks]).median()
        assert all(torch.equal(m, source[n].abs() > median) for n, m in masks.items())


def rewinds() -> list[Any]:
    """Each class with each rewind point; the quick tests try the two that name their weights most unlike."""
    points = ("init", "5it", Rewind("5it", rule="learning-rate"))
    return [
        pytest.param(make, point, marks=() if make in (Renamed, Averaged) and point == "5it" else pytest.mark.slow)
        for make in SAVED
        for point in points
    ]


@pytest.mark.parametrize("make, rewind", rewinds())
def test_runs_rewind_and_go_on_with_the_modules_own_weights(make: Any, rewind: Any, tmp_path: Path) -> None:
    whole = train(make, tmp_path / "whole", rewind=rewind)
    plain = train(zoo.Net, tmp_path / "plain", rewind=rewind)
    if make is not Thinned:  # whose inputs are others
        for round in plain.rounds:
            assert plain.ticket(round).masks == whole.ticket(round).masks
            zoo.assert_equal(whole.weights(round), plain.weights(round))
    with pytest.raises(zoo.Killed):
        train(make, tmp_path / "cut", zoo.KillAt("on_train_batch_start", 13), rewind=rewind)
    cut = train(make, tmp_path / "cut", rewind=rewind)
    assert cut.rounds == whole.rounds
    for round in whole.rounds:
        zoo.assert_equal(cut.weights(round), whole.weights(round), f"round {round}")
    module = make()
    whole.ticket(2).apply(module)
    whole.ticket(2).masks.check(parameters_of(module))


def test_a_ticket_of_a_compiled_module_applies_to_one_that_is_not_and_back(tmp_path: Path) -> None:
    compiled = train(Compiled, tmp_path / "compiled").ticket(2)
    plain = train(zoo.Net, tmp_path / "plain").ticket(2)
    for ticket in (compiled, plain):
        one, other = zoo.Net(), Compiled()
        ticket.apply(one)
        ticket.apply(other)
        zoo.assert_equal(weights_of(other), weights_of(one))


def test_loading_is_all_or_nothing() -> None:
    module = zoo.Net()
    before = {name: t.clone() for name, t in weights_of(module).items()}
    wrong = {**before, "net.0.weight": torch.zeros(2, 2), "stray": torch.zeros(1)}
    del wrong["net.4.bias"]
    with pytest.raises(ValueError) as error:
        load_weights(module, wrong, "the file")
    for named in ("stray: only in the file", "net.4.bias: only in the module", "net.0.weight"):
        assert named in str(error.value)
    zoo.assert_equal(weights_of(module), before)


def test_tied_weights_load_under_any_of_their_names() -> None:
    module = zoo.Tied()
    names: dict[int, list[str]] = {}
    for name, tensor in nn.Module.state_dict(module, keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    first, second = next(found for found in names.values() if len(found) > 1)
    for left_out, kept in ((first, second), (second, first)):
        given = {n: t + 1 for n, t in weights_of(module).items() if n != left_out}
        assert differences(given, module) == ([], [], [])
        load_weights(module, given)
        assert torch.equal(weights_of(module)[left_out], given[kept])


def test_masks_take_names_of_a_compiled_module() -> None:
    mask = torch.ones(16, zoo.INPUTS, dtype=torch.bool)
    assert list(Masks({"net._orig_mod.0.weight": mask})) == ["net.0.weight"]
