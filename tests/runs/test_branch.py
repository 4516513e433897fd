"""A training in the branch of a round: with the round's own ticket it is the round, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import zoo

from lottery import LotteryTicket, Run, StorageError, Ticket
from lottery.runs.branch import Branch


def run(path: Path, loader=zoo.shuffled_loader, **options) -> Run:
    options = {"rounds": 2, "keep": "all", "seed": 5, **options}
    zoo.fit(zoo.Net, LotteryTicket(dirpath=path, **options), loader=loader(), max_epochs=3)
    return Run(path)


def instead(path: Path, branch: Branch, ticket: Ticket | None = None, loader=zoo.shuffled_loader) -> Run:
    # the process's own streams and weights are others than the run's
    own = LotteryTicket(0, dirpath=path, seed=99, ticket=ticket, rewind=settings(branch), branch=branch)
    zoo.fit(zoo.Net, own, loader=loader(), seed=77, max_epochs=3)
    return Run(path)


def settings(branch: Branch) -> str:
    return branch.run.info.settings.rewind.to


@pytest.mark.parametrize(
    "rewind, loader",
    [
        ("init", zoo.shuffled_loader),
        ("1ep", zoo.shuffled_loader),
        ("3it", zoo.ordered_loader),
        ("1ep2it", zoo.generator_loader),
    ],
)
def test_with_the_rounds_own_ticket_it_is_the_round_bit_for_bit(tmp_path, rewind, loader):
    whole = run(tmp_path / "a", loader, rewind=rewind)
    cell = instead(tmp_path / "b", Branch(str(tmp_path / "a"), 2), loader=loader)
    zoo.assert_equal(cell.weights(0), whole.weights(2))
    assert cell.records(0) == whole.records(2)
    assert cell.ticket(0).masks == whole.ticket(2).masks
    for part in ("start", "best", "last", "steps", "epochs"):
        assert getattr(cell.summary(0), part) == getattr(whole.summary(2), part)


def test_another_order_is_another_training_of_the_same_ticket(tmp_path):
    whole = run(tmp_path / "a", rewind="3it")
    found = [instead(tmp_path / f"{order}", Branch(str(tmp_path / "a"), 1, order=order)) for order in (1, 2)]
    assert found[0].ticket(0) == found[1].ticket(0) == whole.ticket(1)
    ends = [torch.cat([w.flatten() for w in r.weights(0).values()]) for r in found]
    assert not torch.equal(*ends)


@pytest.mark.parametrize("loader", [zoo.ordered_loader, zoo.shuffled_loader, zoo.generator_loader])
def test_the_rest_of_a_begun_epoch_comes_in_another_order_too(tmp_path, loader):
    run(tmp_path / "a", loader, rounds=0, snapshots=["3it"])
    ends = []
    for order in (1, 2):
        branch = Branch(str(tmp_path / "a"), start="3it", order=order)
        batches = Batches()
        own = LotteryTicket(0, dirpath=tmp_path / f"{order}", seed=9, branch=branch, save_every="1it")
        with pytest.raises(zoo.Killed):
            zoo.fit(zoo.Net, own, batches, zoo.KillAt("on_train_batch_end", 2), loader=loader(), max_epochs=3)
        again = LotteryTicket(0, dirpath=tmp_path / f"{order}", seed=9, branch=branch, save_every="1it")
        zoo.fit(zoo.Net, again, batches, loader=loader(), max_epochs=3)
        undisturbed = instead(tmp_path / f"{order}-whole", branch, loader=loader)
        zoo.assert_equal(Run(tmp_path / f"{order}").weights(0), undisturbed.weights(0))
        assert Run(tmp_path / f"{order}").summary(0).steps == 24
        ends.append(batches.seen)
    assert not torch.equal(ends[0][0], ends[1][0])


class Batches(pl.Callback):
    """Notes what is trained on."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        self.seen.append(batch[0].clone())


def test_snapshots_are_the_states_of_round_0(tmp_path):
    steps = ["init", "3it", "1ep", "1ep2it"]
    whole = run(tmp_path / "a", rounds=0, snapshots=steps)
    for step in steps:
        again = run(tmp_path / step, rounds=0, rewind=step)
        ticket = Branch(str(tmp_path / "a"), start=step).ticket()
        zoo.assert_equal(dict(ticket.weights), again.weights("rewind"))
        assert ticket.density == 1
    zoo.assert_equal(whole.weights(0), again.weights(0))


def test_a_training_goes_on_from_a_snapshot_for_the_rest_of_the_round(tmp_path):
    whole = run(tmp_path / "a", rounds=0, snapshots=["1ep2it"])
    child = instead(tmp_path / "b", Branch(str(tmp_path / "a"), start="1ep2it", order=1))
    assert child.summary(0).steps == whole.summary(0).steps
    assert child.records(0)[0]["step"] > whole.records(0)[0]["step"]


def test_the_dense_network_goes_on_from_the_rewind_point(tmp_path):
    whole = run(tmp_path / "a", rewind="1ep")
    branch = Branch(str(tmp_path / "a"), order=1)
    zoo.assert_equal(dict(branch.ticket().weights), whole.weights("rewind"))
    child = instead(tmp_path / "b", branch)
    assert child.ticket(0).density == 1
    assert child.records(0)[0]["epoch"] == whole.records(0)[1]["epoch"]
    assert child.records(0) != whole.records(0)[1:]


def test_from_the_beginning_the_whole_training_is_made(tmp_path):
    run(tmp_path / "a", rewind="1ep")
    whole = instead(tmp_path / "b", Branch(str(tmp_path / "a"), 2, start="init"))
    late = instead(tmp_path / "c", Branch(str(tmp_path / "a"), 2))
    assert whole.records(0)[0]["epoch"] < late.records(0)[0]["epoch"]
    initial = Ticket(whole.masks[0], Run(tmp_path / "a").weights("initial"))
    assert whole.ticket(0) == initial


@pytest.mark.parametrize("start", ["rewind", "init"])
@pytest.mark.parametrize("hook, n", [("on_train_batch_end", 6), ("on_train_start", 0)])
def test_killed_and_resumed_equals_undisturbed(tmp_path, start, hook, n):
    run(tmp_path / "a", rewind="3it")
    branch = Branch(str(tmp_path / "a"), 2, start=start, order=1)
    undisturbed = instead(tmp_path / "b", branch)
    options = {"seed": 99, "rewind": "3it", "branch": branch, "save_every": "2it"}
    ticket = LotteryTicket(0, dirpath=tmp_path / "c", **options)
    with pytest.raises(zoo.Killed):
        zoo.fit(zoo.Net, ticket, zoo.KillAt(hook, n), loader=zoo.shuffled_loader(), max_epochs=3)
    again = LotteryTicket(0, dirpath=tmp_path / "c", **options)
    zoo.fit(zoo.Net, again, loader=zoo.shuffled_loader(), max_epochs=3)
    resumed = Run(tmp_path / "c")
    zoo.assert_equal(resumed.weights(0), undisturbed.weights(0))
    assert resumed.records(0) == undisturbed.records(0)


def test_another_budget_or_optimizer_is_refused(tmp_path):
    run(tmp_path / "a")
    ticket = LotteryTicket(0, dirpath=tmp_path / "b", branch=Branch(str(tmp_path / "a"), 1))
    with pytest.raises(ValueError, match="max_epochs: 3 in the run, 4 now"):
        zoo.fit(zoo.Net, ticket, loader=zoo.shuffled_loader(), max_epochs=4)
    assert not (tmp_path / "b" / "run.json").exists()


def test_what_a_place_cannot_be(tmp_path):
    run(tmp_path / "a", snapshots=["3it"])
    with pytest.raises(ValueError, match="order=-1"):
        Branch(str(tmp_path / "a"), 1, order=-1)
    with pytest.raises(ValueError, match="'later' is not a step"):
        Branch(str(tmp_path / "a"), 1, start="later")
    with pytest.raises(StorageError, match="no snapshot of step '4it'; it has 3it"):
        Branch(str(tmp_path / "a"), 1, start="4it").ticket()
    with pytest.raises(StorageError, match="no mask for round 7"):
        Branch(str(tmp_path / "a"), 7).ticket()
    with pytest.raises(ValueError, match="rounds=2"):
        LotteryTicket(2, branch={"dirpath": str(tmp_path / "a"), "round": 1})
