"""Fashion-MNIST: 70 000 pictures of clothing, read from its idx files."""

from __future__ import annotations

import hashlib
import os
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import torch
from torch import Tensor

from lottery.tasks.data import idx
from lottery.tasks.data.in_memory import InMemory, Split, Splits

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
# SHA-256 of the uncompressed files: Debian and the mirrors compress them differently.
CONTENTS = {
    "train-images-idx3-ubyte.gz": ("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte.gz": ("bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte.gz": ("5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte.gz": ("0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
TRAINING_IMAGES = 60_000
SPLIT_SEED = 0


class FashionMNIST(InMemory):
    """70 000 grey pictures of clothing, 28 x 28 pixels in [0, 1], ten classes.

    Of the 60 000 training pictures, a fixed random choice of `validation` is held
    out; the 10 000 test pictures are the standard test set.

    Args:
        batch_size: Training samples per batch.
        seed: Seed of the order of the training batches. The splits are fixed.
        root: Folder with the four idx files (`train-images-idx3-ubyte.gz`, ...).
            Without it, Debian's package folder is tried, then the folder that
            downloads go to (`~/.cache/lottery/fashion-mnist`).
        validation: Number of validation pictures.
        download: Whether to fetch the files where they are missing, once (31 MB).
        train_samples: Train on a fixed random part of this size. Smaller parts are
            contained in larger ones.

    Raises:
        ValueError: `validation` or `train_samples` is out of range; or a file is
            damaged or is not Fashion-MNIST's.
        FileNotFoundError: A file is missing.
        ConnectionError: No mirror answers.

    Example:
        >>> data = FashionMNIST(train_samples=6000)
        >>> data.input_shape, data.num_classes
        ((1, 28, 28), 10)

    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for
    Benchmarking Machine Learning Algorithms, arXiv 1708.07747 (2017);
    github.com/zalandoresearch/fashion-mnist.
    """

    num_classes = 10
    input_shape = (1, 28, 28)

    def __init__(
        self,
        batch_size: int = 60,
        seed: int = 0,
        root: str | os.PathLike[str] | None = None,
        validation: int = 5000,
        download: bool = False,
        train_samples: int | None = None,
    ) -> None:
        if not 1 <= validation < TRAINING_IMAGES:
            raise ValueError(f"validation must lie in 1..{TRAINING_IMAGES - 1}, but is {validation}.")
        remaining = TRAINING_IMAGES - validation
        if train_samples is not None and not 1 <= train_samples <= remaining:
            raise ValueError(
                f"train_samples must lie in 1..{remaining}, which is what validation="
                f"{validation} leaves, but is {train_samples}."
            )
        super().__init__(batch_size, seed)
        # Text, because a Lightning checkpoint that holds a Path does not load safely.
        root = None if root is None else os.fspath(root)
        self.validation = validation
        self.train_samples = train_samples
        self.download = download
        self.folders = [DEBIAN_FOLDER, _download_folder()] if root is None else [Path(root)]
        self.save_hyperparameters()

    def prepare_data(self) -> None:
        """Download the files, where that is asked for and needed."""
        if self.download and _find(self.folders) is None:
            _download(self.folders[-1])

    def load(self) -> Splits:
        """Read the files, check their hashes, scale the pixels to [0, 1] and split."""
        folder = _find(self.folders)
        if folder is None:
            raise FileNotFoundError(_how_to_get_the_files(self.folders))
        names = list(CONTENTS)
        x, y, x_test, y_test = (_read(folder / name) for name in names)
        # NumPy promises that RandomState never changes, so neither does the split.
        shuffled = np.random.RandomState(SPLIT_SEED).permutation(len(y))
        val = torch.from_numpy(shuffled[: self.validation])
        train = torch.from_numpy(shuffled[self.validation :][: self.train_samples])
        return Splits(_scaled(x[train], y[train]), _scaled(x[val], y[val]), _scaled(x_test, y_test))


def _scaled(images: Tensor, labels: Tensor) -> Split:
    return Split(images.unsqueeze(1).float().div_(255), labels.long())


def _read(path: Path) -> Tensor:
    content = idx.decompress(path.read_bytes(), str(path))
    array = idx.parse(content, str(path))
    _check_hash(content, path.name, str(path))
    return array


def _check_hash(content: bytes, name: str, source: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != CONTENTS[name]:
        raise ValueError(
            f"{source} is not the file of Fashion-MNIST: its content has the SHA-256 "
            f"{digest}, but {CONTENTS[name]} was expected. Fetch it again."
        )


def _find(folders: list[Path]) -> Path | None:
    """The first folder with all four files."""
    for folder in folders:
        if all((folder / name).is_file() for name in CONTENTS):
            return folder
    return None


def _how_to_get_the_files(folders: list[Path]) -> str:
    looked_in = "".join(
        f"  {folder}: lacks " + ", ".join(name for name in CONTENTS if not (folder / name).is_file()) + "\n"
        for folder in folders
    )
    return (
        f"No folder holds the four files of Fashion-MNIST. Looked in\n{looked_in}"
        "Install them (apt-get install dataset-fashion-mnist), or name their folder "
        "(root=...), or let them be downloaded (download=True)."
    )


def _download_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lottery" / "fashion-mnist"


def _download(folder: Path) -> None:
    """Fetch each missing file; none is in place before its hash is right."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CONTENTS:
        if not (folder / name).is_file():
            part = folder / f"{name}.{os.getpid()}.part"
            part.write_bytes(_fetch(name))
            part.replace(folder / name)


def _fetch(name: str) -> bytes:
    """The compressed file, from the first mirror that has the right one."""
    failures = []
    for mirror in MIRRORS:
        url = mirror + name
        try:
            with urlopen(url, timeout=60) as answer:
                compressed: bytes = answer.read()
            _check_hash(idx.decompress(compressed, url), name, url)
            return compressed
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"  {url}: {error}")
    raise ConnectionError(
        f"Could not download {name} of Fashion-MNIST:\n"
        + "\n".join(failures)
        + "\nInstall the files (apt-get install dataset-fashion-mnist) or name their "
        "folder (root=...)."
    )
