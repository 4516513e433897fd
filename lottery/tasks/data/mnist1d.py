"""MNIST-1D: procedural digits of 40 numbers each."""

from __future__ import annotations

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng

from lottery.tasks.data.in_memory import InMemory, Split, Splits


class MNIST1D(InMemory):
    """One-dimensional digits, made by a procedure; nothing is downloaded.

    Harder than its size suggests: it tells linear models, MLPs and conv nets apart.
    The last fifth of the samples is the test set, as in the original, the tenth
    before it the validation set. 4000 samples take about 2 seconds to make.

    Args:
        batch_size: Training samples per batch.
        seed: Seed of the order of the training batches. The data are fixed.
        samples: Samples in all, a multiple of 10. The original has 5000.

    Raises:
        ValueError: `samples` is not a positive multiple of 10.

    Example:
        >>> data = MNIST1D(samples=500)
        >>> data.splits.train.x.shape
        torch.Size([350, 40])

    Source: S. Greydanus and D. Kobak, Scaling Down Deep Learning with MNIST-1D, ICML
    2024; github.com/greydanus/mnist1d.
    """

    num_classes = 10
    input_shape = (40,)

    def __init__(self, batch_size: int = 100, seed: int = 0, samples: int = 5000) -> None:
        if samples < 10 or samples % 10:
            raise ValueError(f"samples must be a positive multiple of 10, but is {samples}.")
        super().__init__(batch_size, seed)
        self.samples = samples
        self.save_hyperparameters()

    def load(self) -> Splits:
        """Make the data with the original's settings and seed."""
        # The package imports matplotlib, and most users of `lottery` need none of it.
        from mnist1d.data import get_dataset_args, make_dataset

        settings = get_dataset_args()
        settings.num_samples = self.samples
        with isolate_rng(include_cuda=False):  # make_dataset seeds the global streams
            data = make_dataset(settings)
        x = torch.from_numpy(np.concatenate([data["x"], data["x_test"]])).float()
        y = torch.from_numpy(np.concatenate([data["y"], data["y_test"]])).long()
        val, test = round(self.samples * 0.7), round(self.samples * 0.8)
        return Splits(Split(x[:val], y[:val]), Split(x[val:test], y[val:test]), Split(x[test:], y[test:]))
