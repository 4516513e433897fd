"""A run directory as its reader sees it: finished, running, interrupted, or none at all."""

import itertools
import json
import math
import shutil
import threading

import pandas
import pytest
import torch
import zoo
from locks import another_process_holding
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lottery import LotteryTicket, Pruning, Rewind, Run, StorageError
from lottery.masks.history import MaskHistory
from lottery.runs.layout import encode_masks, masks_file, round_file
from lottery.runs.schema import RoundSummary
from lottery.storage.directory import Directory
from lottery.storage.encoding import encode_json
from lottery.training.record import Record

ROUNDS = 3
AMOUNT = 0.3
STEPS = 10  # of a round: two epochs of five batches
METRICS = {"train_loss", "val_loss", "val_acc"}


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def step(self, batch, name):
        x, y = batch
        logits = self.head(self.body(x))
        loss = nn.functional.cross_entropy(logits, y)
        self.log(f"{name}_loss", loss)
        self.log(f"{name}_acc", (logits.argmax(1) == y).float().mean())
        return loss

    def training_step(self, batch, _):
        x, y = batch
        loss = nn.functional.cross_entropy(self.head(self.body(x)), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.step(batch, "val")

    def test_step(self, batch, _):
        self.step(batch, "test")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def loader(self, seed, samples, **options):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(samples, 6, generator=generator)
        return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), 8, **options)

    def train_dataloader(self):
        return self.loader(1, 40, shuffle=True)

    def val_dataloader(self):
        return self.loader(2, 16)

    def test_dataloader(self):
        return self.loader(3, 16)


NOTES = {}  # by path; of the module, since a round puts back what objects and classes have


class Reader(Callback):
    """Reads the run while it is being written: at every batch, from another thread too."""

    def __init__(self, path):
        self.path = path
        NOTES[path] = [], []

    @property
    def seen(self):
        return NOTES[self.path][0]

    @property
    def tables(self):
        return NOTES[self.path][1]

    def on_train_batch_end(self, trainer, *_):
        run = Run(self.path)
        thread = threading.Thread(target=lambda: self.tables.append(run.table()))
        thread.start()
        assert run.status == "running"
        self.seen.append((run.rounds, run.in_progress))
        run.ticket(run.in_progress)
        thread.join()


class Stop(Exception):
    pass


class StopIn(Callback):
    """An error in an epoch of a round, the first or the second."""

    def __init__(self, round, epoch=0):
        left = round * STEPS + epoch * 5 + 3
        calls = itertools.count()  # over all rounds: no state that a round would put back

        def stop(*_):
            if next(calls) >= left:
                raise Stop

        self.on_train_batch_start = stop


def train(path, *callbacks, **options):
    torch.manual_seed(0)
    options = {"rounds": ROUNDS, "pruning": AMOUNT, "seed": 5, **options}
    module = Net()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[LotteryTicket(dirpath=path, **options), *callbacks],
    ).fit(module)
    return before, module


class Finished:
    """A finished run, what it was made from, and what a reader saw meanwhile."""

    def __init__(self, path, **options):
        self.reader = Reader(path)
        self.before, self.module = train(path, self.reader, **options)
        self.run = Run(path)


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    """keep="last", rewound to the first epoch, with a monitor and tests."""
    return Finished(tmp_path_factory.mktemp("last") / "run", rewind="1ep", monitor="val_loss", test_each_round=True)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """keep="all", learning-rate rewinding, nothing monitored, pruned layer by layer."""
    return Finished(
        tmp_path_factory.mktemp("every") / "run",
        pruning=Pruning(AMOUNT, "layerwise"),
        rewind=Rewind(rule="learning-rate"),
        keep="all",
    )


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Stop):
        train(path, StopIn(2), keep="all")
    return Run(path)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# Laws


def test_masks_are_nested_and_leave_exactly_what_rounding_leaves(last):
    kept = total = 6 * 8 + 8 * 2
    for number in last.run.rounds:
        masks = last.run.ticket(number).masks
        assert list(masks) == ["body.0.weight", "head.weight"]
        assert (masks.kept, masks.total) == (kept, total)
        kept -= round(AMOUNT * kept)
        if number:
            assert masks.nested_in(last.run.ticket(number - 1).masks)


def test_layerwise_masks_leave_what_rounding_leaves_in_each_layer(every):
    kept = {"body.0.weight": 48, "head.weight": 16}
    for number in every.run.rounds:
        masks = every.run.ticket(number).masks
        assert {name: int(mask.sum()) for name, mask in masks.items()} == kept
        kept = {name: k - round(AMOUNT * k) for name, k in kept.items()}


def test_every_ticket_starts_from_the_rewind_point(last):
    rewind = last.run.weights("rewind")
    assert not same(rewind, last.run.weights("initial"))
    assert same(last.run.ticket(0).weights, last.run.weights("initial"))
    for number in last.run.rounds[1:]:
        assert same(last.run.ticket(number).weights, rewind)


def test_with_learning_rate_rewinding_a_ticket_starts_where_the_round_before_ended(every):
    assert same(every.run.ticket(0).weights, every.run.weights("initial"))
    for number in every.run.rounds[1:]:
        assert same(every.run.ticket(number).weights, every.run.weights(number - 1))


def test_the_initial_weights_are_those_of_the_module_before_the_fit(last, every):
    for finished in (last, every):
        assert same(finished.run.weights("initial"), finished.before)


def test_without_a_later_rewind_point_it_is_the_initial_weights(every):
    assert same(every.run.weights("rewind"), every.before)


def test_the_last_weights_are_those_of_the_module_after_the_fit(last, every):
    for finished in (last, every):
        trained = finished.module.state_dict()
        assert same(finished.run.weights(ROUNDS), trained)


def test_trained_weights_are_zero_where_the_mask_is(every):
    for number in every.run.rounds:
        trained = every.run.weights(number)
        for name, mask in every.run.ticket(number).masks.items():
            assert torch.equal(trained[name] != 0, mask)


def test_trained_weights_are_of_the_smallest_magnitude_where_pruned_next(every):
    for number in every.run.rounds[1:]:
        trained = every.run.weights(number - 1)
        before, after = (every.run.ticket(number - 1).masks, every.run.ticket(number).masks)
        for name in after:
            gone = trained[name].abs()[before[name] & ~after[name]]
            stayed = trained[name].abs()[after[name]]
            assert gone.max() <= stayed.min()


def test_the_ticket_of_a_round_fits_the_module_and_masks_it(last):
    for number in last.run.rounds:
        ticket = last.run.ticket(number)
        module = ticket.apply(Net())
        for name, mask in ticket.masks.items():
            assert torch.equal(module.get_parameter(name) != 0, mask)
        assert torch.equal(module.body[1].running_mean, ticket.weights["body.1.running_mean"])


def test_tickets_of_different_rounds_have_different_fingerprints(last, every):
    for finished in (last, every):
        tickets = map(finished.run.ticket, finished.run.rounds)
        assert len({ticket.fingerprint for ticket in tickets}) == ROUNDS + 1


# What a finished run shows


def test_a_finished_run_lists_its_rounds(last, every):
    for finished in (last, every):
        assert finished.run.rounds == list(range(ROUNDS + 1))
        assert finished.run.in_progress is None
        assert repr(finished.run).endswith(f"{ROUNDS + 1} rounds finished)")


def test_the_table_has_a_row_per_round(last):
    table = last.run.table()
    assert table.index.name == "round"
    assert list(table.index) == last.run.rounds
    assert list(table["kept"]) == [last.run.ticket(r).masks.kept for r in table.index]
    assert list(table["density"]) == [last.run.ticket(r).density for r in table.index]
    assert (table["status"] == "finished").all()
    assert (table["steps"] == STEPS).all() and (table["epochs"] == 2).all()
    assert (table["seconds"] > 0).all()


def test_the_table_shows_the_monitored_metric_and_the_tests(last):
    table = last.run.table()
    for column in ("start_val_loss", "best_val_loss", "best_step", "last_val_loss"):
        assert table[column].notna().all(), column
    assert (table["best_val_loss"] <= table["last_val_loss"]).all()
    assert {"best_test_acc", "last_test_acc"} <= set(table.columns)
    assert table["last_test_acc"].between(0, 1).all()


def test_without_a_monitor_the_table_shows_the_last_of_each_metric(every):
    table = every.run.table()
    assert {f"last_{name}" for name in METRICS} <= set(table.columns)
    assert not any(column.startswith(("best", "start")) for column in table.columns)


def test_a_summary_holds_the_numbers_of_its_round(last):
    for number in last.run.rounds:
        summary, ticket = last.run.summary(number), last.run.ticket(number)
        assert summary.round == number
        assert summary.densities == ticket.masks.densities()
        assert summary.prunable == ticket.masks.total
        assert set(summary.last) >= METRICS
        assert summary.monitor == "val_loss" and summary.mode == "min"
        history = last.run.records(number)
        assert summary.best["val_loss"] == min(row["val_loss"] for row in history if "val_loss" in row)
        assert summary.last["val_loss"] == history[-1]["val_loss"]


def test_the_start_of_a_round_is_its_ticket_without_training(last):
    """The dense round starts from the initial weights, the others from the rewind point."""
    loader = Net().val_dataloader()
    for number in last.run.rounds:
        module = last.run.ticket(number).apply(Net()).eval()
        with torch.no_grad():
            losses = [nn.functional.cross_entropy(module.head(module.body(x)), y) for x, y in loader]
        start = last.run.summary(number).start["val_loss"]
        assert start == pytest.approx(float(sum(losses) / len(losses)), rel=1e-5)


def test_the_history_goes_forward_through_the_round(last):
    for number in last.run.rounds:
        history = last.run.records(number)
        steps = [row["step"] for row in history]
        assert steps == sorted(steps) and steps[-1] == STEPS
        assert {name for row in history for name in row} >= METRICS | {"epoch"}


def test_after_rewinding_to_an_epoch_the_history_starts_after_it(last):
    assert [row["step"] for row in last.run.records(0)] == [5, 10]
    for number in last.run.rounds[1:]:
        assert [row["step"] for row in last.run.records(number)] == [10]


def test_a_ticket_says_where_it_came_from(last):
    ticket = last.run.ticket(2)
    assert ticket.provenance["run"] == last.run.info.id
    assert ticket.provenance["round"] == 2
    assert ticket.provenance["seed"] == 5
    assert ticket.provenance["versions"]["torch"] == torch.__version__
    assert ticket.provenance["rewind"]["to"] == "1ep"
    assert ticket.provenance["metrics"]["last"] == last.run.summary(2).last


def test_the_best_round_of_the_table_leads_to_its_ticket(every, tmp_path):
    number = every.run.table()["last_val_acc"].idxmax()
    ticket = every.run.ticket(number)
    ticket.save(tmp_path / "best.ticket")
    assert type(ticket).load(tmp_path / "best.ticket").provenance["round"] == number
    assert same(every.run.weights(number), every.run.weights(int(number)))


def test_a_ticket_of_a_run_can_be_saved_and_loaded(last, tmp_path):
    ticket = last.run.ticket(2)
    ticket.save(tmp_path / "two.ticket")
    loaded = type(ticket).load(tmp_path / "two.ticket")
    assert loaded.fingerprint == ticket.fingerprint
    assert loaded.provenance == ticket.provenance


def test_keep_last_keeps_the_weights_of_the_last_round_only(last):
    assert last.run.weights(ROUNDS)
    for number in range(ROUNDS):
        with pytest.raises(StorageError) as error:
            last.run.weights(number)
        assert f"weights of round {number} were not kept" in str(error.value)
        assert "keep='all'" in str(error.value)


def test_keep_all_keeps_the_weights_of_every_round(every):
    weights = [every.run.weights(number) for number in every.run.rounds]
    assert not any(same(a, b) for a, b in itertools.pairwise(weights))


def test_the_masks_of_a_run_are_those_of_its_tickets(last, every, interrupted):
    for run in (last.run, every.run, interrupted):
        begun = [*run.rounds, *filter(None, [run.in_progress])]
        assert list(run.masks) == [run.ticket(number).masks for number in begun]


def test_the_history_is_a_tidy_table_of_all_records(last, every):
    for run in (last.run, every.run):
        history = run.history()
        assert list(history.columns[:4]) == ["round", "density", "step", "epoch"]
        assert set(history.columns[4:]) >= METRICS
        assert list(history.index) == list(range(len(history)))
        rows = [
            {name: value for name, value in row.items() if not pandas.isna(value)} for row in history.to_dict("records")
        ]
        assert rows == [
            {**row, "round": number, "density": run.ticket(number).density}
            for number in run.rounds
            for row in run.records(number)
        ]


def test_the_history_of_a_round_is_its_part_of_the_whole(last):
    whole = last.run.history()
    for number in whole["round"].unique():  # NumPy's
        part = whole[whole["round"] == number].reset_index(drop=True)
        pandas.testing.assert_frame_equal(last.run.history(number), part)


def test_the_densities_are_those_of_the_masks(last, every):
    for run in (last.run, every.run):
        densities = run.densities()
        assert densities.index.name == "round"
        assert list(densities.index) == run.rounds
        for number, row in densities.iterrows():
            masks = run.masks[number]
            assert dict(row) == {**masks.densities(), "all": masks.density}


def test_numbers_that_json_cannot_hold_are_stored_as_none(last):
    record = Record(monitor="a", history=[{"step": 1, "epoch": 1, "a": math.nan}])
    masks = last.run.ticket(0).masks
    summary = zoo.summary_of(record, 0, masks, test_last={"t": math.inf})
    assert RoundSummary.of(json.loads(json.dumps(summary.plain(), allow_nan=False))) == summary
    assert summary.last == {"a": None} and summary.test_last == {"t": None}
    assert summary.best == {}


# A run that is not finished


def test_a_run_can_be_read_while_it_is_being_written(last, every):
    for finished in (last, every):
        seen = finished.reader.seen
        assert seen == sorted(seen)
        assert {now for _, now in seen} == set(range(ROUNDS + 1))
        for rounds, now in seen:
            assert rounds == list(range(now))
        for (_, now), table in zip(seen, finished.reader.tables, strict=True):
            assert list(table.index) == list(range(now + 1))
            assert list(table["status"]) == ["finished"] * now + ["in progress"]


def test_what_a_crash_leaves_of_a_finished_round_is_not_in_progress(last, tmp_path):
    path = shutil.copytree(last.run.path, tmp_path / "run")
    Directory(path).write_checkpoint("last.ckpt", {})  # its removal comes after
    assert Run(path).in_progress is None
    assert (Run(path).table()["status"] == "finished").all()


def test_an_interrupted_run_shows_what_is_finished_and_what_was_begun(interrupted):
    assert interrupted.rounds == [0, 1]
    assert interrupted.in_progress == 2
    assert list(interrupted.table()["status"]) == ["finished"] * 2 + ["in progress"]
    assert interrupted.ticket(2).masks.nested_in(interrupted.ticket(1).masks)
    assert interrupted.ticket(2).provenance["round"] == 2
    assert "metrics" not in interrupted.ticket(2).provenance


def test_a_run_is_running_while_a_process_writes_it(last, interrupted, tmp_path):
    assert (last.run.status, interrupted.status) == ("finished", "interrupted")
    copied = Run(shutil.copytree(interrupted.path, tmp_path / "run"))
    with another_process_holding(copied.path, "alone"):
        assert copied.status == "running" and copied.rounds == interrupted.rounds
        assert ": running, " in copied._repr_html_()
    assert copied.status == "interrupted"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """In the second epoch of round 1, with last.ckpt of its first."""
    path = tmp_path_factory.mktemp("killed") / "run"
    with pytest.raises(Stop):
        train(path, StopIn(1, epoch=1), keep="all", save_every="1ep")
    return Run(path)


def test_the_history_of_a_round_in_progress_is_what_was_noted_of_it(killed, tmp_path):
    noted = killed.records(1)
    history = killed.history(1)
    assert [row["step"] for row in noted] == [5]
    assert (history["round"] == 1).all()
    assert (history["density"] == killed.ticket(1).density).all()
    assert list(history["val_loss"]) == [noted[0]["val_loss"]]
    assert set(killed.history()["round"]) == {0}

    path = shutil.copytree(killed.path, tmp_path / "run")
    train(path, keep="all")
    assert Run(path).records(1)[:1] == noted


def test_a_round_that_was_just_begun_has_an_empty_history(killed, tmp_path):
    path = shutil.copytree(killed.path, tmp_path / "run")
    (path / "last.ckpt").unlink()
    assert Run(path).records(1) == []
    assert list(Run(path).history(1)) == ["round", "density", "step", "epoch"]


def test_a_run_of_no_finished_round_has_empty_tables(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path / "run", StopIn(0))
    run = Run(tmp_path / "run")
    assert run.status == "interrupted" and run.metric is None
    assert run.history().empty and run.densities().empty
    assert "in progress" in run._repr_html_()
    assert list(run.masks) == [run.ticket(0).masks]


@pytest.mark.parametrize("what", ["summary", "records", "history", "weights", "ticket"])
@pytest.mark.parametrize("number", [3, -1, 99])
def test_a_round_that_is_not_finished_is_an_error_that_lists_those_that_are(interrupted, what, number):
    with pytest.raises(StorageError) as error:
        getattr(interrupted, what)(number)
    assert str(interrupted.path) in str(error.value)
    assert f"round {number}" in str(error.value)
    assert "finished rounds are [0, 1]" in str(error.value)


def test_a_round_in_progress_has_no_trained_weights_yet(interrupted):
    with pytest.raises(StorageError, match=r"no round 2; finished rounds are \[0, 1\]"):
        interrupted.weights(2)


def test_a_reader_sees_rounds_that_finish_after_it_was_opened(interrupted, tmp_path):
    path = shutil.copytree(interrupted.path, tmp_path / "run")
    reader = Run(path)
    assert reader.rounds == [0, 1]
    train(path, keep="all")
    assert reader.rounds == list(range(ROUNDS + 1))
    assert reader.in_progress is None
    assert list(reader.table().index) == reader.rounds


def test_before_the_rewind_point_there_are_no_rewind_weights(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path / "run", StopIn(0), rewind="1ep")
    run = Run(tmp_path / "run")
    assert run.rounds == [] and run.in_progress == 0
    assert list(run.table()["status"]) == ["in progress"]
    assert run.weights("initial")
    with pytest.raises(StorageError, match="no rewind point yet"):
        run.weights("rewind")


# No run, or a damaged one


@pytest.mark.parametrize("kind", ["nothing", "empty", "other files", "half-written"])
def test_where_no_run_is_is_an_error_that_says_who_writes_one(tmp_path, last, kind):
    path = tmp_path / "run"
    if kind != "nothing":
        path.mkdir()
    if kind == "other files":
        Directory(path).commit({"barrier.json": encode_json([])})
    if kind == "half-written":  # killed before the first commit was complete
        shutil.copytree(last.run.path, path, dirs_exist_ok=True)
        (path / "manifest.json").unlink()
    with pytest.raises(StorageError) as error:
        Run(path)
    assert f"{path} holds no run" in str(error.value)
    assert "LotteryTicket(dirpath=...)" in str(error.value)
    assert path.exists() == (kind != "nothing")


def test_a_file_is_no_run(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(StorageError, match=str(path)):
        Run(path)


def test_a_damaged_file_is_an_error_of_what_needs_it_only(last, tmp_path):
    path = shutil.copytree(last.run.path, tmp_path / "run")
    (path / round_file(2, "summary.json")).write_text("{}")
    run = Run(path)
    assert run.rounds == list(range(ROUNDS + 1))
    assert run.summary(1) == last.run.summary(1)
    with pytest.raises(StorageError, match=r"rounds/02/summary\.json has 2 bytes"):
        run.summary(2)
    with pytest.raises(StorageError, match=r"rounds/02/summary\.json"):
        run.table()


def without_tensors(run, path, rounds=ROUNDS + 1):
    """A copy of a run, as long as you like, in which every file of tensors is damaged."""
    names = {number: min(number, ROUNDS) for number in range(rounds)}
    copied = {
        round_file(number, name): encode_json(
            run.records(like) if name == "history.json" else {**run.summary(like).plain(), "round": number}
        )
        for number, like in names.items()
        for name in ("history.json", "summary.json")
    }
    tensors = {"initial.safetensors": b"", masks_file(rounds - 1): b"no tensors"}
    Directory(path).commit({"run.json": encode_json(run.info.plain()), **copied, **tensors})
    (path / "rewind.ckpt").write_bytes(b"no tensors")
    for name in tensors:
        (path / name).unlink()
    return Run(path)


def test_what_a_run_shows_reads_no_tensors(last, every, tmp_path):
    for name, whole in (("last", last.run), ("every", every.run)):
        run = without_tensors(whole, tmp_path / name)
        assert (run.rounds, run.in_progress) == (whole.rounds, None)
        assert (run.status, run.metric) == ("finished", whole.metric)
        assert run.table().equals(whole.table())
        assert run.history().equals(whole.history())
        assert run.densities().equals(whole.densities())
        assert run._repr_html_() == whole._repr_html_().replace(str(whole.path), str(run.path))
        with pytest.raises(StorageError, match=r"masks/03\.safetensors is missing"):
            run.ticket(1)


def test_a_long_run_shows_itself_without_its_tensors(last, tmp_path):
    run = without_tensors(last.run, tmp_path / "long", rounds=30)
    assert list(run.table().index) == list(run.densities().index) == list(range(30))
    assert "30 rounds finished" in run._repr_html_()


def test_a_damaged_masks_file_is_an_error_of_what_needs_it_only(last, tmp_path):
    path = shutil.copytree(last.run.path, tmp_path / "run")
    file = path / masks_file(ROUNDS)
    file.write_bytes(file.read_bytes()[::-1])
    run = Run(path)
    assert run.table().equals(last.run.table())
    assert same(run.weights(ROUNDS), last.run.weights(ROUNDS))
    for needs in (lambda: run.masks, lambda: run.ticket(0)):
        with pytest.raises(StorageError, match=r"masks/03\.safetensors does not have"):
            needs()


def test_masks_are_read_while_new_rounds_replace_their_file(last, tmp_path):
    run = without_tensors(last.run, tmp_path / "run")
    done, seen, wrong = threading.Event(), [], []
    history = MaskHistory.of([last.run.masks[0]] * 4)
    directory = Directory(run.path)
    directory.commit({masks_file(4): encode_masks(history)}, drop=[masks_file(3)])

    def read():
        try:
            while not done.is_set():
                seen.append(len(Run(run.path).masks))
        except BaseException as error:  # noqa: BLE001 (handed to the test below)
            wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(5, 40):
        history = history.followed_by(history[-1])
        directory.commit({masks_file(number): encode_masks(history)}, drop=[masks_file(number - 1)])
    done.set()
    reader.join()
    assert wrong == [] and seen == sorted(seen)


def with_metrics(run, path, monitor, **logged):
    """A run of one round that logged other metrics."""
    summary = {**run.summary(0).plain(), "monitor": monitor, "start": {}, "best": {}}
    summary |= {"last": {}, "test_best": {}, "test_last": {}, **logged}
    del summary["metric"]
    Directory(path).commit(
        {
            "run.json": encode_json(run.info.plain()),
            masks_file(0): encode_masks(MaskHistory.of([run.masks[0]])),
            round_file(0, "summary.json"): encode_json(summary),
            round_file(0, "history.json"): encode_json([]),
        }
    )
    return Run(path)


@pytest.mark.parametrize(
    ("monitor", "logged", "expected"),
    [
        ("val_acc", {"test_best": {"test_acc": 1, "a": 2}}, "best_test_acc"),
        ("val/acc", {"test_best": {"test/acc": 1}}, "best_test/acc"),
        ("val_acc", {"test_best": {"acc": 1}}, "best_val_acc"),
        ("acc", {"test_best": {"acc": 1}}, "best_acc (test)"),
        ("val_acc", {}, "best_val_acc"),
        (None, {"last": {"loss": 1, "acc": 2}}, "last_loss"),
        (None, {}, None),
    ],
)
def test_the_metric_that_says_most_is_the_test_at_the_best_step(last, tmp_path, monitor, logged, expected):
    if monitor:
        logged = {"best": {"step": 3, monitor: 0.5}, "last": {monitor: 0.4}, **logged}
    assert with_metrics(last.run, tmp_path, monitor, **logged).metric == expected


def test_test_metrics_have_columns_of_their_own_also_under_the_monitored_name(last, tmp_path):
    run = with_metrics(
        last.run,
        tmp_path,
        "acc",
        start={"acc": 0.1},
        best={"step": 3, "acc": 0.9},
        last={"acc": 0.8},
        test_best={"acc": 0.7, "step": 5},
        test_last={"acc": 0.6},
    )
    row = dict(run.table().loc[0])
    assert (row["start_acc"], row["best_acc"], row["last_acc"]) == (0.1, 0.9, 0.8)
    assert (row["best_acc (test)"], row["last_acc (test)"]) == (0.7, 0.6)
    assert (row["best_step"], row["best_step (test)"]) == (3, 5)


def test_a_metric_called_density_does_not_hide_the_rounds_own(last, tmp_path):
    run = with_metrics(last.run, tmp_path, None)
    row = {"step": 1, "epoch": 1, "density": 0.5, "round": 9}
    Directory(tmp_path).commit({round_file(0, "history.json"): encode_json([row])})
    assert dict(run.history().loc[0]) == {**row, "density": 1, "round": 0}


def test_a_damaged_rewind_point_is_an_error_that_names_it(last, tmp_path):
    path = shutil.copytree(last.run.path, tmp_path / "run")
    data = (path / "rewind.ckpt").read_bytes()
    (path / "rewind.ckpt").write_bytes(data[: len(data) // 2])
    with pytest.raises(StorageError, match=r"rewind\.ckpt has \d+ bytes instead of"):
        Run(path).ticket(1)
    assert Run(path).ticket(0).density == 1


@pytest.mark.parametrize("of", ["final", "1", None, 1.0])
def test_weights_of_something_else_are_refused_with_what_there_is(last, of):
    with pytest.raises(TypeError, match="'initial', 'rewind' or the number"):
        last.run.weights(of)


def test_reading_a_run_writes_nothing(last, tmp_path):
    path = shutil.copytree(last.run.path, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    run = Run(path)
    run.table(), run.records(1), run.ticket(2).table(), run.weights("rewind")
    run.status, run.history(), run.densities(), run.metric, run._repr_html_()
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


def test_rounds_beyond_ninety_nine_are_in_order(tmp_path, last):
    summary = last.run.summary(0).plain()
    masks = MaskHistory.of([last.run.masks[0]] * 103)
    numbers = [0, 2, 10, 99, 100, 101]
    Directory(tmp_path).commit(
        {
            "run.json": encode_json(last.run.info.plain()),
            **{round_file(n, "summary.json"): encode_json({**summary, "round": n}) for n in numbers},
            masks_file(102): encode_masks(masks),
        }
    )
    assert Run(tmp_path).rounds == numbers
    assert Run(tmp_path).in_progress == 102
    assert list(Run(tmp_path).table().index) == [*numbers, 102]
