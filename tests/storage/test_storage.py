"""The files of a run: whole or not at all, verified, by one process at a time."""

import contextlib
import errno
import itertools
import json
import os
import pickle
import resource
import signal
import threading
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from locks import another_process_holding

from lottery import Masks, StorageError, storage
from lottery.masks.history import MaskHistory
from lottery.runs.layout import LAST, decode_masks, encode_masks, run_directory
from lottery.storage import files as storage_files
from lottery.storage.directory import LOCK, MANIFEST, Directory

TENSORS = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)}
MASKS = MaskHistory.of(
    [
        Masks({"w": torch.tensor([[True, True, True], [False, True, True]])}),
        Masks({"w": torch.tensor([[True, False, True], [False, True, True]])}),
    ]
)
CHECKPOINT = {"state_dict": TENSORS, "epoch": 3, "deep": [{"a": (1, None)}]}
OLD = {"run.json": b"{}\n", "rounds/00/history.json": b"[1, 2, 3]\n"}
NEW = {"masks/01.safetensors": b"mask" * 99, "rounds/01/summary.json": b"[]\n"}


def Loose(path):
    """A directory with a file that is replaced, as those of runs have."""
    return Directory(path, loose=(LAST,))


class Crash(BaseException):
    """The process ends here: no handler of the code under test may catch it."""


class Accident:
    """Raises an error at the n-th moment of the writing that goes on meanwhile."""

    def __init__(self, moment, error):
        self.left = moment
        self.error = error

    @property
    def happened(self):
        return self.left < 0

    def pass_moment(self):
        self.left -= 1
        if self.left == -1:
            raise self.error

    @contextlib.contextmanager
    def around_writing(self):
        accident, replace, fsync = self, os.replace, os.fsync

        class File:
            def __init__(self, path, mode):
                accident.pass_moment()
                self.file = open(path, mode, buffering=0)  # noqa: SIM115

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

            def __getattr__(self, name):
                return getattr(self.file, name)

            def write(self, data):
                accident.pass_moment()
                self.file.write(data[: len(data) // 2])
                accident.pass_moment()
                self.file.write(data[len(data) // 2 :])
                accident.pass_moment()

        def open_file(path, mode):
            return File(path, mode) if mode == "wb" else open(path, mode)

        def replace_file(*paths):
            accident.pass_moment()
            replace(*paths)
            accident.pass_moment()

        def sync_file(handle):
            accident.pass_moment()
            fsync(handle)

        with (
            mock.patch.object(storage_files, "open", open_file, create=True),
            mock.patch.object(os, "replace", replace_file),
            mock.patch.object(os, "fsync", sync_file),
        ):
            yield


def accidents(make_error):
    """Accidents at every moment of what the caller does, until one comes too late to happen."""
    for moment in itertools.count():
        accident = Accident(moment, make_error())
        yield accident
        if not accident.happened:
            assert moment > 3
            return


def contents(directory):
    return {name: directory.read(name) for name in directory.files()}


def filled(path):
    """A directory with one file of every kind."""
    directory = Loose(path)
    directory.commit(
        {
            "run.json": storage.encode_json({"id": "a", "seed": 3}),
            "tensors.safetensors": storage.encode_tensors(TENSORS),
            "mask.safetensors": encode_masks(MASKS),
            "rewind.ckpt": storage.encode_checkpoint(CHECKPOINT),
        }
    )
    directory.write_checkpoint(LAST, CHECKPOINT)
    return directory


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("undamaged"))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("damaged"))


@contextlib.contextmanager
def damage(directory, name, change):
    path = directory.path / name
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        yield
    finally:
        path.write_bytes(before)


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


# Whole or not at all


def test_a_crash_at_any_moment_of_a_commit_leaves_all_of_it_or_nothing(tmp_path):
    outcomes = set()
    for number, accident in enumerate(accidents(Crash)):
        path = tmp_path / str(number)
        Directory(path).commit(OLD)
        with contextlib.suppress(Crash), accident.around_writing():
            Directory(path).commit(NEW)
        found = contents(Directory(path))
        assert found in (OLD, {**OLD, **NEW})
        outcomes.add(len(found))
        Directory(path).commit(NEW)
        assert contents(Directory(path)) == {**OLD, **NEW}
    assert outcomes == {2, 4}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_of_the_disk_names_the_file_and_leaves_what_was_there(tmp_path, number):
    for attempt, accident in enumerate(accidents(lambda: OSError(number, "disk"))):
        path = tmp_path / str(attempt)
        Directory(path).commit(OLD)
        try:
            with accident.around_writing():
                Directory(path).commit(NEW)
        except StorageError as error:
            assert any(str(path / name) in str(error) for name in [*NEW, MANIFEST])
            assert "disk" in str(error) and "try again" in str(error)
        else:
            assert not accident.happened
        assert contents(Directory(path)) in (OLD, {**OLD, **NEW})
        assert not list(path.rglob("*.tmp"))
        Directory(path).commit(NEW)
        assert contents(Directory(path)) == {**OLD, **NEW}


@pytest.mark.parametrize("make_error", [Crash, lambda: OSError(errno.ENOSPC, "No space left on device")])
def test_a_checkpoint_is_the_old_or_the_new_one_whatever_happens(tmp_path, make_error):
    new = {"state_dict": {"w": torch.ones(300)}, "epoch": 4}
    for accident in accidents(make_error):
        Loose(tmp_path).write_checkpoint(LAST, CHECKPOINT)
        with contextlib.suppress(Crash, StorageError), accident.around_writing():
            Loose(tmp_path).write_checkpoint(LAST, new)
        found = Loose(tmp_path).read_checkpoint(LAST)
        assert same(found, CHECKPOINT) or same(found, new)


def test_a_crash_at_any_moment_of_a_removal_leaves_a_readable_directory(tmp_path):
    for accident in accidents(Crash):
        Directory(tmp_path).commit({**OLD, **NEW})
        with contextlib.suppress(Crash), accident.around_writing():
            Directory(tmp_path).commit({}, drop=NEW)
        assert contents(Directory(tmp_path)) in (OLD, {**OLD, **NEW})


def test_a_file_too_large_for_the_system_is_an_error_that_names_it(tmp_path):
    directory = Directory(tmp_path)
    directory.commit(OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"large\.bin.*File too large"):
            directory.commit({"large.bin": bytes(200_000)})
        with pytest.raises(StorageError, match=rf"{LAST}.*File too large"):
            directory.write_checkpoint(LAST, {"w": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(directory) == OLD
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([MANIFEST, "run.json", "rounds"])


def test_files_outside_the_manifest_count_as_not_written(tmp_path):
    directory = Directory(tmp_path)
    directory.commit(OLD)
    (tmp_path / "stray.json").write_text("{}")
    assert "stray.json" not in directory
    with pytest.raises(StorageError, match=r"stray\.json does not exist"):
        directory.read("stray.json")


def test_removed_files_are_gone_and_the_others_stay(tmp_path):
    directory = Directory(tmp_path)
    directory.commit({**OLD, **NEW})
    directory.commit({}, drop=[*NEW, "never/there"])
    assert contents(directory) == OLD
    assert not any((tmp_path / name).exists() for name in NEW)


# What is read is what was written

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=30)
@given(values)
def test_json_reads_back(undamaged, value):
    undamaged.commit({"value.json": storage.encode_json(value)})
    assert undamaged.read_json("value.json", lambda found: found) == value


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_tensors_read_back_bit_for_bit(tmp_path, dtype):
    tensors = {
        "matrix": (torch.randn(3, 4) * 9).to(dtype),
        "transposed": (torch.randn(3, 4) * 9).to(dtype).t(),
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
    }
    tensors["tied"] = tensors["matrix"]
    directory = Directory(tmp_path)
    directory.commit({"t.safetensors": storage.encode_tensors(tensors)})
    assert same(directory.read_tensors("t.safetensors"), tensors)


def test_masks_read_back_in_the_order_of_the_module(tmp_path):
    ordered = Masks.ones({name: torch.zeros(3) for name in ("z", "a", "m", "b")})
    history = MaskHistory.of([ordered])
    Directory(tmp_path).commit({"m.safetensors": encode_masks(history)})
    assert list(decode_masks(Directory(tmp_path).read("m.safetensors"))[0]) == list(ordered)


def test_masks_and_checkpoints_read_back(undamaged):
    assert decode_masks(undamaged.read("mask.safetensors")) == MASKS
    assert same(undamaged.read_checkpoint(LAST), CHECKPOINT)


def test_a_directory_that_is_not_there_has_no_files(tmp_path):
    directory = Directory(tmp_path / "nothing" / "here")
    assert directory.files() == {}
    assert "run.json" not in directory
    assert not (tmp_path / "nothing").exists()


# Damage

finished = st.sampled_from(["run.json", "tensors.safetensors", "mask.safetensors", "rewind.ckpt"])
checkpoints = st.just(LAST)  # the others have hashes in the manifest


@given(st.data(), finished)
def test_a_flipped_bit_in_a_finished_file_is_noticed(damaged, data, name):
    size = damaged.files()[name]["size"]
    position = data.draw(st.integers(0, size - 1), "position")
    bit = data.draw(st.integers(0, 7), "bit")
    with damage(damaged, name, lambda b: flip(b, position, bit)):
        with pytest.raises(StorageError) as error:
            damaged.read(name)
        assert str(damaged.path / name) in str(error.value)
        assert "new dirpath" in str(error.value)
    damaged.read(name)


@given(st.data(), finished)
def test_a_truncated_finished_file_is_noticed(damaged, data, name):
    size = damaged.files()[name]["size"]
    length = data.draw(st.integers(0, size - 1), "length")
    with (
        damage(damaged, name, lambda b: b[:length]),
        pytest.raises(StorageError, match=f"{name} has {length} bytes instead of"),
    ):
        damaged.read(name)


@given(st.data())
def test_a_flipped_bit_in_the_manifest_is_noticed_or_changes_nothing(damaged, data):
    before = damaged.files()
    size = (damaged.path / MANIFEST).stat().st_size
    position = data.draw(st.integers(0, size - 1), "position")
    bit = data.draw(st.integers(0, 7), "bit")
    with damage(damaged, MANIFEST, lambda b: flip(b, position, bit)):
        try:
            assert damaged.files() == before
        except StorageError as error:
            assert str(damaged.path) in str(error)


@settings(max_examples=300)
@given(st.data(), checkpoints)
def test_a_flipped_bit_in_a_checkpoint_is_noticed_or_changes_nothing(damaged, data, name):
    size = (damaged.path / name).stat().st_size
    from_the_end = data.draw(st.booleans(), "from the end")  # where zip keeps its list
    position = data.draw(st.integers(0, 1500 if from_the_end else size - 1), "position")
    position = size - 1 - position if from_the_end else position
    bit = data.draw(st.integers(0, 7), "bit")
    with damage(damaged, name, lambda b: flip(b, position, bit)):
        try:
            assert same(damaged.read_checkpoint(name), CHECKPOINT)
        except StorageError as error:
            assert str(damaged.path / name) in str(error)


@given(st.data(), checkpoints)
def test_a_truncated_checkpoint_is_noticed(damaged, data, name):
    size = (damaged.path / name).stat().st_size
    length = data.draw(st.integers(0, size - 1), "length")
    with damage(damaged, name, lambda b: b[:length]), pytest.raises(StorageError, match=name):
        damaged.read_checkpoint(name)


def test_a_checkpoint_whose_tensors_are_marked_as_folders_is_noticed(damaged):
    """torch reads memory as it happens to be in their place, and no checksum covers the mark."""
    entry = b"archive/data/0"

    def mark(data):
        listed = data.rindex(entry) - 46  # where zip keeps its list of entries
        assert data[listed : listed + 4] == b"PK\1\2"
        return flip(data, listed + 38, 4)

    with damage(damaged, LAST, mark), pytest.raises(StorageError, match=rf"{LAST} is damaged in archive/data/0"):
        damaged.read_checkpoint(LAST)
    assert same(damaged.read_checkpoint(LAST), CHECKPOINT)


def flip(data, position, bit):
    return b"".join([data[:position], bytes([data[position] ^ 1 << bit]), data[position + 1 :]])


def test_a_missing_file_is_an_error_that_names_it_and_a_way_out(tmp_path):
    directory = filled(tmp_path)
    for name in ("run.json", "rewind.ckpt"):
        (tmp_path / name).unlink()
    for read, name in ((directory.read, "run.json"), (directory.read_checkpoint, "rewind.ckpt")):
        with pytest.raises(StorageError) as error:
            read(name)
        assert f"{tmp_path / name} is missing" in str(error.value)
        assert "Restore it from a copy" in str(error.value)


def test_a_damaged_last_checkpoint_can_be_deleted(tmp_path):
    directory = run_directory(tmp_path)
    directory.write_checkpoint(LAST, CHECKPOINT)
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:500])
    with pytest.raises(StorageError) as error:
        directory.read_checkpoint(LAST)
    assert f"{tmp_path / LAST} cannot be read" in str(error.value)
    assert "Delete it and run again" in str(error.value)
    assert "new dirpath" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": 2}', '{"format": "x"}', "\xff"])
def test_a_manifest_that_is_none_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(text.encode("latin1"))
    with pytest.raises(StorageError) as error:
        Directory(tmp_path).files()
    assert str(tmp_path / MANIFEST) in str(error.value)
    assert "new dirpath" in str(error.value)


def test_a_manifest_edited_by_hand_is_noticed(tmp_path):
    Directory(tmp_path).commit(OLD)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["files"].pop("run.json")
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match="contents that were written"):
        Directory(tmp_path).files()


@pytest.mark.parametrize("format", [storage.FORMAT + 1, storage.BEFORE_CHECKPOINTS - 1])
def test_a_directory_of_another_format_says_how_to_update(tmp_path, format):
    (tmp_path / MANIFEST).write_text(json.dumps({"format": format, "other": []}))
    for use in (Directory(tmp_path).files, lambda: Directory(tmp_path).commit(NEW)):
        with pytest.raises(StorageError, match=rf"another version.*format {format}.*pip install -U"):
            use()


def test_a_file_in_the_place_of_the_directory_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("not a directory")
    with pytest.raises(StorageError, match=str(path)):
        Directory(path).files()
    with pytest.raises(StorageError, match=str(path)):
        Directory(path).commit(OLD)
    with pytest.raises(StorageError, match=str(path)), Directory(path).locked():
        pass
    assert path.read_text() == "not a directory"


def test_a_directory_in_the_place_of_a_file_is_an_error_that_names_it(tmp_path):
    directory = filled(tmp_path)
    for name in ("run.json", LAST):
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match=r"run\.json"):
        directory.read("run.json")
    with pytest.raises(StorageError, match=LAST):
        directory.read_checkpoint(LAST)
    with pytest.raises(StorageError, match=LAST):
        directory.write_checkpoint(LAST, CHECKPOINT)


def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    directory = Loose(tmp_path)
    directory.write_checkpoint(LAST, {"state_dict": Trap()})
    with pytest.raises(StorageError, match="execute code") as error:
        directory.read_checkpoint(LAST)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("data", [b"", b"plain text", pickle.dumps({"a": 1})])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, data):
    (tmp_path / LAST).write_bytes(data)
    with pytest.raises(StorageError, match=LAST):
        Loose(tmp_path).read_checkpoint(LAST)


# One process at a time


@pytest.mark.parametrize("company", ["alone", "child"])
def test_the_lock_is_refused_to_others_until_its_holder_is_killed(tmp_path, company):
    directory = filled(tmp_path)
    with another_process_holding(tmp_path, company) as holder:
        with pytest.raises(StorageError) as error, directory.locked():
            pass
        assert f"{tmp_path} is being written by another process" in str(error.value)
        assert f"process {holder.pid} on" in str(error.value)
        assert same(directory.read_checkpoint(LAST), CHECKPOINT)  # readers need no lock
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with directory.locked():
            pass


@pytest.mark.parametrize("company", ["alone", "child"])
def test_a_directory_is_in_use_while_a_process_holds_it(tmp_path, company):
    directory = filled(tmp_path)
    assert not directory.in_use
    with another_process_holding(tmp_path, company) as holder:
        assert directory.in_use
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert not directory.in_use
    with directory.locked():
        assert directory.in_use and Directory(tmp_path).in_use
    assert not directory.in_use


def test_where_nothing_was_ever_written_nothing_is_in_use(tmp_path):
    assert not Directory(tmp_path).in_use
    assert not Directory(tmp_path / "nothing").in_use
    assert not list(tmp_path.iterdir())


def test_those_who_ask_whether_a_directory_is_in_use_disturb_no_writer(tmp_path):
    directory, done = filled(tmp_path), threading.Event()

    def ask():
        while not done.is_set():
            Directory(tmp_path).in_use  # noqa: B018

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(20):
            with directory.locked():
                directory.commit({f"{number}.json": storage.encode_json(number)})
                assert directory.in_use
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert {f"{number}.json" for number in range(20)} <= directory.files().keys()


def test_the_lock_is_refused_to_the_same_process_too(tmp_path):
    with (
        Directory(tmp_path).locked(),
        pytest.raises(StorageError, match=f"process {os.getpid()}"),
        Directory(tmp_path).locked(),
    ):
        pass
    with Directory(tmp_path).locked():
        pass


def test_the_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), Directory(tmp_path).locked():
        raise ZeroDivisionError
    with Directory(tmp_path).locked():
        pass


def test_those_who_only_read_take_no_lock(tmp_path):
    with (
        Directory(tmp_path).locked(),
        Directory(tmp_path).locked(writing=False),
        Directory(tmp_path / "other").locked(writing=False),
    ):
        assert (tmp_path / LOCK).exists()
        assert not (tmp_path / "other").exists()


def test_readers_see_whole_files_while_another_writes(tmp_path):
    commits = [{f"{n}/a.json": storage.encode_json(n), f"{n}/b.json": storage.encode_json(n)} for n in range(60)]
    directory = Loose(tmp_path)
    directory.write_checkpoint(LAST, {"w": torch.zeros(50)})
    done, seen, wrong = threading.Event(), [], []

    def read():
        reader = Loose(tmp_path)
        try:
            while not done.is_set():
                found = contents(reader)
                seen.append(len(found))
                assert len(found) % 2 == 0
                for name, data in found.items():
                    assert data == storage.encode_json(int(name.split("/")[0]))
                weights = reader.read_checkpoint(LAST)["w"]
                assert (weights == weights[0]).all()
        except BaseException as error:  # noqa: BLE001 (handed to the test below)
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number, files in enumerate(commits):
        directory.commit(files)
        directory.write_checkpoint(LAST, {"w": torch.full((50 + number,), number)})
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(contents(directory)) == 120
