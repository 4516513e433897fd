"""Handwritten digits of 8 x 8 pixels, from scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from lottery.tasks.data.in_memory import InMemory, Split, Splits


class Digits(InMemory):
    """1797 handwritten digits of 8 x 8 pixels, in [0, 1]; nothing is downloaded.

    The stratified splits hold 1078 training, 359 validation and 360 test samples.

    Args:
        batch_size: Training samples per batch.
        seed: Seed of the order of the training batches. The splits are fixed.

    Example:
        >>> digits = Digits()
        >>> x, y = next(iter(digits.train_dataloader()))
        >>> x.shape, digits.num_classes
        (torch.Size([64, 64]), 10)

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI
    Machine Learning Repository (1998); its test part, as `sklearn.datasets.load_digits`
    ships it.
    """

    num_classes = 10
    input_shape = (64,)

    def __init__(self, batch_size: int = 64, seed: int = 0) -> None:
        super().__init__(batch_size, seed)
        self.save_hyperparameters()

    def load(self) -> Splits:
        """Scale the pixels from 0..16 to [0, 1] and split them 60 : 20 : 20."""
        # scikit-learn is slow to import, and most users of `lottery` need none of it.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        x, y = load_digits(return_X_y=True)
        everything = np.arange(len(y))
        train, rest = train_test_split(everything, test_size=0.4, stratify=y, random_state=0)
        val, test = train_test_split(rest, test_size=0.5, stratify=y[rest], random_state=0)
        inputs = torch.from_numpy(x / 16).float()
        labels = torch.from_numpy(y).long()
        return Splits(*(Split(inputs[i], labels[i]) for i in (train, val, test)))
