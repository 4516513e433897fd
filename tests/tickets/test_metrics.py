"""torchmetrics of a module's own sparsity."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lottery import LotteryTicket, Masks, Run
from lottery.tickets.metrics import Density, MaskOverlap


class Logging(zoo.Net):
    """Logs its own density, by an attribute that is also a submodule of what it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.density = Density()

    def on_train_epoch_end(self) -> None:
        self.density.update(self)
        self.log("density", self.density)


def all_metrics() -> list[Any]:
    masks = Masks({"0.weight": torch.ones(6, 5, dtype=torch.bool)})
    return [Density(), MaskOverlap(masks), MaskOverlap(masks, "hamming")]


def net_with(mask: torch.Tensor) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(6, 5) + 0.1)
        net[0].weight.mul_(mask)
    return net


bits = st.lists(st.booleans(), min_size=30, max_size=30).map(lambda values: torch.tensor(values).reshape(6, 5))


@given(bits, bits)
def test_each_metric_is_the_count_that_it_names(mask: torch.Tensor, other: torch.Tensor) -> None:
    net = net_with(mask)
    kept = int(mask.sum())
    assert float(Density()(net)) == pytest.approx(kept / 30)
    either, both = int((mask | other).sum()), int((mask & other).sum())
    jaccard = MaskOverlap({"0.weight": other})(net)
    assert float(jaccard) == pytest.approx(both / either if either else 1.0)
    hamming = MaskOverlap({"0.weight": other}, "hamming")(net)
    assert float(hamming) == pytest.approx((either - both) / 30)


def test_an_update_replaces_the_one_before_and_reset_forgets_it() -> None:
    full, half = torch.ones(6, 5), torch.ones(6, 5)
    half[:3] = 0
    for metric in all_metrics():
        expected = metric.clone()(net_with(half))
        metric.update(net_with(full))
        metric.update(net_with(half))
        assert metric.compute() == expected
        metric(net_with(half))
        assert metric.compute() == expected
        metric.reset()
        assert metric.update_count == 0 and int(metric.whole) == 0


def test_density_looks_where_it_is_told() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[0].weight.data.zero_()
    assert Density(include=["0.*"])(net) == 0
    assert Density(exclude=["0.*"])(net) == 1
    with pytest.raises(ValueError, match="nothere"):
        Density(include=["nothere"])(net)


def test_metrics_leave_the_module_that_carries_them_as_it_was() -> None:
    """Also its prunable weights: a metric's reference is not among them."""
    net = net_with(torch.ones(6, 5))
    keys, names = list(net.state_dict()), [n for n, _ in net.named_parameters()]
    before = copy.deepcopy(net.state_dict())
    for index, metric in enumerate(all_metrics()):
        setattr(net, f"metric{index}", metric)
    for module in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        for index in range(3):
            getattr(module, f"metric{index}").update(module)
        assert list(module.state_dict()) == keys
        assert [n for n, _ in module.named_parameters()] == names
        zoo.assert_equal(dict(module.state_dict()), dict(before))


def test_the_density_that_a_module_logs_is_that_of_the_round(tmp_path: Path) -> None:
    plain = zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path / "plain"), max_epochs=2)
    zoo.fit(Logging, LotteryTicket(2, dirpath=tmp_path / "run"), max_epochs=2)
    run = Run(tmp_path / "run")
    for round in run.rounds:
        logged = run.summary(round).last["density"]
        assert logged == pytest.approx(run.summary(round).density, abs=1e-7)
    keys = plain.lightning_module.state_dict().keys()
    assert run.weights(2).keys() == keys


def test_what_does_not_fit_is_named() -> None:
    net = net_with(torch.ones(6, 5))
    with pytest.raises(ValueError, match="other.weight"):
        MaskOverlap({"other.weight": torch.ones(1, dtype=torch.bool)})(net)
    with pytest.raises(ValueError, match="'dice'.*jaccard"):
        MaskOverlap({}, "dice")  # type: ignore[arg-type]


def test_a_metric_is_plotted_as_every_torchmetric() -> None:
    metric = Density()
    metric.update(net_with(torch.ones(6, 5)))
    figure, axes = metric.plot()
    assert axes.get_ylim()[1] >= 1.0
    assert figure is not None


def test_processes_that_hold_the_same_weights_give_the_value_of_one() -> None:
    """torchmetrics' own synchronisation, of two processes with equal states."""
    net = net_with(torch.tensor([0.0, 0, 1, 1, 1, 1])[:, None].expand(6, 5))
    for metric in all_metrics():
        alone = metric(net)
        metric.reset()
        metric.distributed_available_fn = lambda: True
        metric.dist_sync_fn = lambda state, group: [state, state.clone()]
        metric.update(net)
        assert metric.compute() == alone
