"""Checkpoints whose contents are plain: what has no plain form is taken from the live fit when they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from lottery.training.state import TAG, Plain, Unstorable, decode, encode


class StoredObjects:
    """The objects without a plain form that a fit's checkpoints hold from the beginning: losses, encoders, tables.

    They are what the script makes: another process that runs it has them too.

    Args:
        dump: gives a checkpoint of the fit as it is now.
    """

    def __init__(self, dump: Callable[[], Mapping[str, object]]) -> None:
        self._dump = dump
        self._objects: dict[str, object] | None = None

    @property
    def names(self) -> list[str]:
        """Where they stand."""
        return list(self._objects or ())

    def encode(self, checkpoint: Mapping[str, object]) -> dict[str, Plain]:
        """A checkpoint that `torch.load(weights_only=True)` reads back once it is saved.

        Raises:
            TypeError: it holds an object that was not there when the fit began; the message says where.
        """
        first = self._objects is None
        objects = {} if self._objects is None else self._objects

        def other(value: object, where: str) -> Plain:
            if isinstance(value, nn.Parameter):
                return value
            if first:
                objects[where] = value
            elif where not in objects:
                raise Unstorable(value, where)
            return {TAG: "object", "at": where}

        self._objects = objects
        try:
            return encode(dict(checkpoint), "checkpoint", other, copies=False)
        except Unstorable as error:
            raise TypeError(
                f"the state of the fit cannot be stored safely: {error} is neither a tensor nor a plain container or"
                " value, and was not there when the fit began. Look at what the callback of that name returns from"
                " `state_dict`, or at what the module's `on_save_checkpoint` adds. What was stored before is kept."
            ) from None

    def decode(self, checkpoint: Mapping[str, Plain]) -> dict[str, Plain]:
        """What was encoded; its tensors are copies."""

        def at(where: str) -> object:
            if self._objects is None:
                self.encode(self._dump())
            return (self._objects or {})[where]

        return decode(checkpoint, at)
