"""The benchmark tasks: their splits, their files, and the order of their batches."""

import gzip
import hashlib
import random
import struct

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback, LightningModule, Trainer

from lottery.tasks.data import MNIST1D, BatchLoader, Digits, FashionMNIST, fashion_mnist, idx

seeds = st.integers(-(2**70), 2**70)
rounds = st.integers(0, 50)
epochs = st.integers(0, 500)


def loader(samples=20, batch_size=3, **options):
    return BatchLoader(torch.arange(samples), batch_size=batch_size, **options)


def read(batches):
    return [batch[0].tolist() for batch in batches]


def flat(batches):
    return [sample for batch in read(batches) for sample in batch]


def order(round=0, epoch=0, **options):
    data = loader(**options)
    data.set_round(round)
    data.sampler.set_epoch(epoch)
    return flat(data)


def streams():
    return (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


# The order of a BatchLoader


@given(st.integers(1, 60), st.integers(1, 70), seeds, rounds, epochs, st.booleans())
def test_each_epoch_is_a_permutation(samples, batch_size, seed, round, epoch, drop_last):
    data = loader(samples, batch_size, seed=seed, drop_last=drop_last)
    data.set_round(round)
    data.sampler.set_epoch(epoch)
    batches = read(data)
    seen = [sample for batch in batches for sample in batch]
    assert len(batches) == len(data)
    assert len(set(seen)) == len(seen)
    if drop_last:
        assert all(len(batch) == batch_size for batch in batches)
        assert samples - len(seen) < batch_size
    else:
        assert sorted(seen) == list(range(samples))


@given(seeds, rounds, epochs)
def test_the_order_depends_on_nothing_but_seed_round_and_epoch(seed, round, epoch):
    expected = order(seed=seed, round=round, epoch=epoch)
    data = loader(seed=seed)
    list(data)
    data.set_round(round + 1)
    next(iter(data))
    torch.rand(3)
    data.set_round(round)
    data.sampler.set_epoch(epoch)
    assert flat(data) == expected
    assert flat(data) == expected


@given(st.lists(st.tuples(seeds, rounds, epochs), min_size=2, unique=True))
def test_other_seeds_rounds_and_epochs_have_other_orders(places):
    orders = {tuple(order(seed=s, round=r, epoch=e)) for s, r, e in places}
    assert len(orders) == len(places)


def test_the_batch_size_does_not_change_the_order():
    assert order(batch_size=3) == order(batch_size=7)


def test_the_order_of_a_seed_is_the_same_in_every_version():
    expected = [5, 2, 0, 1, 7, 6, 3, 4, 8, 9]
    assert order(samples=10, seed=1, round=2, epoch=3) == expected


def test_without_shuffle_the_samples_keep_their_order():
    assert order(shuffle=False, round=4, epoch=5) == list(range(20))


def test_a_loader_leaves_the_global_random_streams_alone():
    before = streams()
    list(loader())
    assert streams() == before


def test_every_tensor_is_batched_alike():
    x = torch.arange(10)
    for first, second in BatchLoader(x, x * 2, batch_size=4):
        assert torch.equal(first * 2, second)


def test_a_batch_is_a_copy():
    x = torch.zeros(4)
    for shuffle in (True, False):
        for (batch,) in BatchLoader(x, batch_size=2, shuffle=shuffle):
            batch += 1
    assert not x.any()


def test_the_epoch_may_be_set_after_the_iterator_is_made():
    data = loader()
    batches = iter(data)
    data.sampler.set_epoch(5)
    data.set_round(2)
    assert flat(batches) == order(round=2, epoch=5)


def test_a_pass_that_has_begun_keeps_its_order():
    data = loader()
    batches = iter(data)
    first = next(batches)[0].tolist()
    data.set_round(1)
    data.sampler.set_epoch(1)
    assert first + flat(batches) == order()


@pytest.mark.parametrize(
    ("tensors", "batch_size", "message"),
    [
        ((), 1, "at least one tensor"),
        ((torch.zeros(2), torch.zeros(3)), 1, r"one length, but got \[2, 3\]"),
        ((torch.zeros(2), torch.zeros(2, device="meta")), 1, "'cpu', 'meta'"),
        ((torch.zeros(2),), 0, "at least 1, but is 0"),
    ],
)
def test_a_loader_names_what_is_wrong(tensors, batch_size, message):
    with pytest.raises(ValueError, match=message):
        BatchLoader(*tensors, batch_size=batch_size)


# Stopping and resuming a BatchLoader


@given(st.data(), seeds, rounds, epochs)
def test_a_resumed_epoch_is_the_tail_of_the_uninterrupted_one(data, seed, round, epoch):
    first = loader(seed=seed)
    first.set_round(round)
    first.sampler.set_epoch(epoch)
    uninterrupted = read(first)
    position = data.draw(st.integers(1, len(first) - 1))
    batches = iter(first)
    for _ in range(position):
        next(batches)

    second = loader(seed=seed)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    second.set_round(round + 1)
    second.sampler.set_epoch(epoch)
    assert read(second) == uninterrupted[position:]
    assert flat(second) == order(seed=seed, round=round + 1, epoch=epoch)


@given(epochs, rounds)
def test_nothing_is_resumed_from_the_end_of_an_epoch(epoch, round):
    first = loader()
    list(first)
    assert first.state_dict()["position"] == len(first)

    second = loader()
    second.load_state_dict(first.state_dict())
    second.set_round(round)
    second.sampler.set_epoch(epoch)
    assert flat(second) == order(round=round, epoch=epoch)


def test_the_rest_of_a_shortened_epoch_is_not_resumed_in_the_next():
    first = loader()
    next(iter(first))
    second = loader()
    second.load_state_dict(first.state_dict())
    second.sampler.set_epoch(1)
    assert flat(second) == order(epoch=1)


def test_a_state_survives_an_iterator_that_is_never_used():
    first = loader()
    next(iter(first))
    second = loader()
    second.load_state_dict(first.state_dict())
    iter(second)
    assert flat(second) == order()[3:]


def test_a_state_counts_the_batches_of_the_pass_that_began_last():
    data = loader()
    old = iter(data)
    next(old)
    new = iter(data)
    assert data.state_dict()["position"] == 1
    next(new)
    next(new)
    next(old)
    assert data.state_dict()["position"] == 2


def test_a_state_is_plain_enough_to_load_safely(tmp_path):
    state = loader(seed=2**70).state_dict()
    assert all(type(value) is int for value in state.values())
    torch.save(state, tmp_path / "state")
    assert torch.load(tmp_path / "state", weights_only=True) == state


@pytest.mark.parametrize("other", [{"seed": 1}, {"samples": 21}, {"batch_size": 4}, {"shuffle": False}])
def test_a_state_of_another_loader_is_refused(other):
    ((name, value),) = other.items()
    mine = {"samples": 20, "batch_size": 3, "seed": 0, "shuffle": True}[name]
    with pytest.raises(ValueError, match=f"{name}={int(mine)}.*{name}={int(value)}"):
        loader(**other).load_state_dict(loader().state_dict())


@pytest.mark.parametrize(
    ("change", "message"), [({"position": 8}, "position is 8.*7 batches"), ({"position": -1}, "is -1")]
)
def test_a_damaged_state_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        loader().load_state_dict({**loader().state_dict(), **change})


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"lacks \['batch_size', 'epoch'"):
        loader().load_state_dict({"seed": 0})


class Diary(LightningModule):
    """Writes down the batches that it trains on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0].tolist())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Save(Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@zoo.resumes_inside_epochs
@pytest.mark.parametrize("limit", [1.0, 5])
@pytest.mark.parametrize("step", [1, 5, 7, 10, 12])
def test_lightning_resumes_inside_an_epoch(tmp_path, limit, step):
    def fit(callbacks, ckpt_path=None):
        module = Diary()
        Trainer(
            max_epochs=3,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_train_batches=limit,
            callbacks=callbacks,
        ).fit(module, loader(), ckpt_path=ckpt_path)
        return module.seen

    path = tmp_path / "step.ckpt"
    seen = fit([Save(step, path)])
    per_epoch = 7 if limit == 1.0 else limit
    for epoch in range(3):
        data = loader()
        data.sampler.set_epoch(epoch)
        expected = read(data)[:per_epoch]
        assert seen[epoch * per_epoch : (epoch + 1) * per_epoch] == expected
    assert fit([], ckpt_path=path) == seen[step:]


# The splits


@pytest.fixture(scope="module")
def clothes():
    if not fashion_mnist.DEBIAN_FOLDER.is_dir():
        pytest.skip("needs the package dataset-fashion-mnist")
    data = FashionMNIST()
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def signals():
    data = MNIST1D(samples=500)
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def digits():
    data = Digits()
    data.setup("fit")
    return data


@pytest.mark.parametrize(
    ("task", "sizes"), [("digits", (1078, 359, 360)), ("signals", (350, 50, 100)), ("clothes", (55_000, 5_000, 10_000))]
)
def test_a_task_has_three_splits_as_it_announces(task, sizes, request):
    data = request.getfixturevalue(task)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    for split, batches, size in zip(data.splits, loaders, sizes, strict=True):
        assert split.x.shape == (size, *data.input_shape)
        assert split.x.dtype == torch.float32
        assert split.y.shape == (size,)
        assert set(split.y.tolist()) == set(range(data.num_classes))
        assert batches.samples == size
    assert [batches.shuffle for batches in loaders] == [True, False, False]
    assert loaders[0].batch_size == data.hparams.batch_size


def test_pixels_lie_between_0_and_1(digits, clothes):
    for split in (*digits.splits, *clothes.splits):
        assert (split.x.min(), split.x.max()) == (0, 1)


def fingerprint(data):
    """A hash of the samples of each split, in their order."""
    return [hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()[:8] for x, y in data.splits]


def test_the_splits_of_the_digits_are_fixed(digits):
    assert fingerprint(digits) == ["9e757c6a", "b7800492", "7806a260"]
    assert fingerprint(Digits(batch_size=8, seed=7)) == fingerprint(digits)


def test_the_splits_of_fashion_mnist_are_fixed(clothes):
    assert fingerprint(clothes) == ["52873db9", "386020ff", "85becac1"]


def test_the_splits_of_mnist1d_do_not_depend_on_the_seed(signals):
    assert fingerprint(MNIST1D(seed=7, samples=500)) == fingerprint(signals)


def test_the_splits_of_the_digits_hold_every_sample_once(digits):
    from sklearn.datasets import load_digits

    def rows(x):
        return sorted(map(bytes, (x * 16).astype("uint8")))

    together = torch.cat([split.x for split in digits.splits]).numpy()
    assert rows(together) == rows(load_digits().data / 16)


def test_the_splits_of_the_digits_are_stratified(digits):
    for split in digits.splits:
        shares = torch.bincount(split.y) / len(split.y)
        assert shares.min() > 0.09
        assert shares.max() < 0.11


def test_the_splits_of_fashion_mnist_hold_every_sample_once(clothes):
    folder = fashion_mnist.DEBIAN_FOLDER
    train, val, test = clothes.splits
    for name, together in (
        ("train-images-idx3-ubyte.gz", torch.cat([train.x, val.x])),
        ("t10k-images-idx3-ubyte.gz", test.x),
    ):
        content = gzip.decompress((folder / name).read_bytes())
        pixels = np.frombuffer(content, np.uint8, offset=16)
        ours = (together * 255).round().byte().view(len(together), -1).numpy()
        theirs = pixels.reshape(len(together), -1)
        assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))


def test_a_part_of_fashion_mnist_has_the_same_validation_split(clothes):
    part = FashionMNIST(train_samples=100)
    assert torch.equal(part.splits.train.x, clothes.splits.train.x[:100])
    assert torch.equal(part.splits.val.x, clothes.splits.val.x)


def test_setup_loads_once(digits):
    before = digits.splits
    digits.setup("fit")
    digits.setup("test")
    assert digits.splits is before


def test_loading_leaves_the_global_random_streams_alone():
    before = streams()
    Digits().setup()
    MNIST1D(samples=10).setup()
    assert streams() == before


def test_the_seed_is_the_seed_of_the_order():
    assert Digits(seed=5).train_dataloader().seed == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MNIST1D(samples=55), "multiple of 10, but is 55"),
        (lambda: FashionMNIST(validation=60_000), "1..59999, but is 60000"),
        (lambda: FashionMNIST(train_samples=55_001), "1..55000.*but is 55001"),
    ],
)
def test_a_task_names_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The files of Fashion-MNIST


def idx_file(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny Fashion-MNIST, whose hashes are taken for the true ones."""
    numbers = np.random.RandomState(0)
    folder = tmp_path / "files"
    folder.mkdir()
    contents = {}
    for part, size in (("train", 30), ("t10k", 10)):
        images = numbers.randint(0, 256, (size, 28, 28), np.uint8)
        labels = numbers.randint(0, 10, size, np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind}-ubyte.gz"
            data = idx_file(array)
            (folder / name).write_bytes(data)
            contents[name] = hashlib.sha256(gzip.decompress(data)).hexdigest()
    monkeypatch.setattr(fashion_mnist, "CONTENTS", contents)
    return folder


def test_fashion_mnist_is_read_from_a_given_folder(folder):
    data = FashionMNIST(root=folder, validation=10)
    assert [len(split.y) for split in data.splits] == [20, 10, 10]
    assert data.hparams.root == str(folder)


def damage(kind, data):
    return {
        "cut off": data[: len(data) // 2],
        "empty": b"",
        "not gzip": gzip.decompress(data),
        "one byte": data[:20] + bytes([data[20] ^ 255]) + data[21:],
        "not idx": gzip.compress(b"<html>Not found</html>"),
        "short": gzip.compress(gzip.decompress(data)[:-1]),
        "long": gzip.compress(gzip.decompress(data) + b"0"),
        "only a header": gzip.compress(gzip.decompress(data)[:6]),
        "other data": idx_file(np.ones((4,), np.uint8)),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut off", "not a whole gzip file"),
        ("empty", "not an idx file"),
        ("not gzip", "not a whole gzip file"),
        ("one byte", "not a whole gzip file|is not"),
        ("not idx", "begins with 3c 68 74 6d"),
        ("short", "header announces"),
        ("long", "header announces"),
        ("only a header", "header announces"),
        ("other data", "not the file of Fashion-MNIST"),
    ],
)
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_damaged_file_is_named(folder, name, kind, message):
    path = folder / name
    path.write_bytes(damage(kind, path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        FashionMNIST(root=folder, validation=10).setup()
    assert str(path) in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_no_content_crashes_the_idx_reader(content):
    try:
        array = idx.parse(content, "the file")
    except ValueError as error:
        assert "the file" in str(error)
    else:
        assert array.numel() <= len(content)


def test_a_missing_file_and_the_ways_out_are_named(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        FashionMNIST(root=folder).setup()
    for part in (
        f"{folder}: lacks t10k-labels-idx1-ubyte.gz",
        "apt-get install dataset-fashion-mnist",
        "root=",
        "download=True",
    ):
        assert part in str(caught.value)


def test_missing_files_are_downloaded_once(folder, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in fashion_mnist.CONTENTS:
        (broken / name).write_bytes(b"<html>Not found</html>")
    mirrors = [f"{place.as_uri()}/" for place in (tmp_path / "no", broken, folder)]
    monkeypatch.setattr(fashion_mnist, "MIRRORS", mirrors)
    root = tmp_path / "new"
    data = FashionMNIST(root=root, validation=10, download=True)
    data.prepare_data()
    data.setup()
    assert len(data.splits.train.y) == 20
    assert sorted(path.name for path in root.iterdir()) == sorted(fashion_mnist.CONTENTS)

    monkeypatch.setattr(fashion_mnist, "MIRRORS", [])
    data.prepare_data()


def test_a_failed_download_names_each_mirror(folder, tmp_path, monkeypatch):
    name = "train-images-idx3-ubyte.gz"
    (folder / name).write_bytes(idx_file(np.ones((4,), np.uint8)))
    mirrors = [f"{place.as_uri()}/" for place in (tmp_path / "no", folder)]
    monkeypatch.setattr(fashion_mnist, "MIRRORS", mirrors)
    root = tmp_path / "new"
    with pytest.raises(ConnectionError) as caught:
        FashionMNIST(root=root, download=True).prepare_data()
    assert all(mirror + name in str(caught.value) for mirror in mirrors)
    assert "not the file of Fashion-MNIST" in str(caught.value)
    assert not list(root.iterdir())


def test_nothing_is_downloaded_unasked(folder, tmp_path):
    FashionMNIST(root=tmp_path / "new").prepare_data()
    assert not (tmp_path / "new").exists()


def test_without_a_root_the_folder_of_downloads_is_tried(folder, monkeypatch):
    cache = folder.parent / "cache" / "lottery"
    cache.mkdir(parents=True)
    folder.rename(cache / "fashion-mnist")
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder.parent / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    assert len(FashionMNIST(validation=10).splits.train.y) == 20
