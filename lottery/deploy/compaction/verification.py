"""Makes sure that a smaller module computes what the larger one does, and keeps the units without which it does not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from lottery.deploy.compaction.copying import copied
from lottery.deploy.compaction.removal import Removal
from lottery.deploy.compaction.surgery import cut
from lottery.deploy.compaction.units import Units
from lottery.deploy.distance import distance
from lottery.deploy.inputs import Inputs, batch_of
from lottery.foundations.tensors_in import outputs_in, tensors_in, with_tensors
from lottery.foundations.undisturbed import refreshed

TOLERANCES = {torch.float64: 1e-12, torch.complex128: 1e-12}  # of the largest entry of an output
SINGLE = 1e-4  # the same of other precisions
SIZES = 5  # that a dimension is tried at, beside its own
LARGEST = 2**16  # entries of an input that is tried at a much larger size

Sizes = Mapping[tuple[int, int], int]  # number of a tensor and of one of its dimensions to a size


def verified(module: nn.Module, units: Units, keep: Collection[str], inputs: Inputs) -> Removal:
    """What goes of a network, such that the smaller one computes the same wherever it was tried.

    Both run on the inputs, on random ones of their shapes, and on random ones of other batch sizes and of other sizes
    along each dimension, where the module takes such; and in training, where the smaller one must run. Where they part,
    the units of the layer at fault stay, and all is tried again.

    Args:
        module: in eval mode and double precision, or float32.
        units: of the module.
        keep: names of weights whose units stay.
        inputs: what forward takes.

    Raises:
        ValueError: the module does not compute the same as its copy.
    """
    because: dict[str, str] = {}
    trials = list(_trials(module, inputs))
    removal = Removal(units, keep)
    while (failed := _first_failed(module, removal, trials)) is not None:
        trial, why = failed
        names = list(removal.removed())
        if not names:
            raise ValueError(f"{type(module).__name__} and its copy do not compute the same, with all units: {why}")
        good, bad = 0, len(names)  # it does without the units of names[:good], and not without those of names[:bad]
        while bad > good + 1:
            middle = (good + bad) // 2
            fewer = Removal(units, keep, {**because, **dict.fromkeys(names[middle:], "")})
            if fault := trial.fault(_smaller(module, fewer)):
                bad, why = middle, fault
            else:
                good = middle
        because[names[bad - 1]] = why
        removal = Removal(units, keep, because)
    return removal


@dataclass(frozen=True, eq=False)
class Trial:
    """What a module gives for certain inputs.

    Attributes:
        inputs: what forward takes.
        expected: the tensors that it gives.
        where: in words, for what kind of inputs.
        training: in training, where what is random and what is constant differ, so that only shapes are compared.
    """

    inputs: Inputs
    expected: list[Tensor]
    where: str
    training: bool = False

    def fault(self, small: nn.Module) -> str:
        """What a smaller module does otherwise, in words; nothing where it does the same."""
        small = copied(small).train() if self.training else small
        names = {part: path or type(small).__name__ for path, part in small.named_modules()}
        inside = [type(small).__name__]

        def enter(part: nn.Module, _: object) -> None:
            inside.append(names[part])

        def leave(*_: object) -> None:
            inside.pop()

        with ExitStack() as stack:
            for part in names:
                stack.callback(part.register_forward_pre_hook(enter).remove)
                stack.callback(part.register_forward_hook(leave).remove)
            try:
                found = _run(small, self.inputs)
            except Exception as error:  # noqa: BLE001 (whatever forward does)
                return f"without them forward of {inside[-1]} stops{self.where}: {error}"
        agree = _same_shape if self.training else _agree
        alike = len(found) == len(self.expected) and all(map(agree, self.expected, found))
        return "" if alike else f"without them {type(small).__name__} gives something else{self.where}"


def _first_failed(module: nn.Module, removal: Removal, trials: Collection[Trial]) -> tuple[Trial, str] | None:
    """The first trial in which the smaller module does something else, and what."""
    if not removal.kept():
        return None
    small = _smaller(module, removal)
    faults = ((trial, trial.fault(small)) for trial in trials)
    return next((found for found in faults if found[1]), None)


def _smaller(module: nn.Module, removal: Removal) -> nn.Module:
    """A copy without what goes, and without what the module keeps in eval mode."""
    return refreshed(cut(copied(module), removal.kept(), removal.added(), removal.sizes()))


def _trials(module: nn.Module, inputs: Inputs) -> Iterator[Trial]:
    """The inputs, and others that the module takes."""
    yield Trial(inputs, _run(module, inputs), "")
    yield from _taken(module, [_random(inputs)], " for random inputs", 1)
    if any(_counts(x) for x in tensors_in(inputs)):
        yield from _taken(module, (_random(inputs, beyond) for beyond in (3, 1, 0)), " for other whole numbers", 1)
        yield from _taken(module, [_permuted(inputs)], " for other whole numbers", 1)
    samples = next((len(x) for x in tensors_in(inputs) if x.ndim), 1)
    for size in {1, samples + 1} - {samples}:
        yield from _taken(module, [_random(batch_of(inputs, size))], f" at batch size {size}", 1)
    few = batch_of(inputs, min(samples, 2))
    for dims in _dimensions(few):
        yield from _taken(module, (_random(other) for other in _resized(few, dims)), "", SIZES)

    with suppress(Exception):  # whatever forward does
        in_training = inputs if samples > 1 else batch_of(inputs, 2)  # some norms take no single sample
        yield Trial(in_training, _run(copied(module).train(), in_training), " in training", training=True)


def _taken(module: nn.Module, candidates: Iterable[Inputs], where: str, most: int) -> Iterator[Trial]:
    """The first inputs that a module takes."""
    for inputs in candidates:
        with suppress(Exception):  # whatever forward does
            expected = _run(module, inputs)
            shapes = ", ".join(str(tuple(x.shape)) for x in tensors_in(inputs))
            yield Trial(inputs, expected, where or f" for inputs of the shape {shapes}")
            most -= 1
        if not most:
            return


def _dimensions(inputs: Inputs) -> list[Sizes]:
    """Dimensions that may be of another size together, with their sizes.

    They are those of one length, and, as in pictures, all from the third on.
    """
    places = {
        (n, dim): size for n, x in enumerate(tensors_in(inputs)) for dim, size in enumerate(x.shape) if dim and size
    }
    alike: list[Sizes] = [
        {p: size for p, size in places.items() if size == length} for length in sorted(set(places.values()))
    ]
    pictures = {(n, dim): size for (n, dim), size in places.items() if dim > 1}
    return [*alike, pictures] if pictures and pictures not in alike else alike


def _resized(inputs: Inputs, dims: Sizes) -> Iterator[Inputs]:
    """Inputs with other sizes along dimensions: near ones, half and twice, and far smaller and larger ones."""
    larger = (lambda n: 9 * n,) if 9 ** len(dims) * max(x.numel() for x in tensors_in(inputs)) <= LARGEST else ()
    for change in (lambda n: n + 1, lambda n: n + 3, lambda n: max(1, n // 2), lambda n: max(1, n // 6), *larger):
        yield _repeated(inputs, {place: change(size) for place, size in dims.items()})
    yield _repeated(inputs, {place: 2 * size for place, size in dims.items()})


def _repeated(inputs: Inputs, sizes: Sizes) -> Inputs:
    """Inputs whose entries come again, or go, up to a size along some dimensions."""
    numbers = count()

    def sized(x: Tensor) -> Tensor:
        number = next(numbers)
        for dim in range(x.ndim):
            if (size := sizes.get((number, dim))) is not None:
                x = x.index_select(dim, torch.arange(size) % x.shape[dim])
        return x

    return with_tensors(inputs, sized)


def _random(inputs: Inputs, beyond: int | None = None) -> Inputs:
    """Normal numbers; whole numbers between the least and the greatest that are there; truth values stay.

    Where `beyond` is given, whole numbers from zero on and up to so many more than the greatest.
    """

    def drawn(x: Tensor) -> Tensor:
        if x.is_floating_point():
            return torch.randn_like(x)
        if not _counts(x):
            return x
        low, high = int(x.min()), int(x.max())
        if beyond is not None:
            low, high = min(low, 0), min(high + beyond, torch.iinfo(x.dtype).max - 1)
        return torch.randint_like(x, low, high + 1)

    return with_tensors(inputs, drawn)


def _permuted(inputs: Inputs) -> Inputs:
    """Whole numbers in other places."""
    return with_tensors(inputs, lambda x: x.flatten()[torch.randperm(x.numel())].reshape(x.shape) if _counts(x) else x)


def _counts(x: Tensor) -> bool:
    """Whether these are whole numbers, as indices are."""
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool) and x.numel() > 0


def _run(module: nn.Module, inputs: Inputs) -> list[Tensor]:
    """What it gives; what works in place finds the inputs as they were."""
    torch.manual_seed(0)
    given = with_tensors(inputs, torch.clone)
    with torch.no_grad():
        return outputs_in(module(*given), type(module).__name__)


def _same_shape(expected: Tensor, found: Tensor) -> bool:
    return expected.shape == found.shape


def _agree(expected: Tensor, found: Tensor) -> bool:
    apart, scale = distance(expected, found)
    rounds = expected.is_floating_point() or expected.is_complex()
    return apart <= (TOLERANCES.get(expected.dtype, SINGLE) * scale if rounds else 0)
