"""Export formats by name: what a format is, what it is given, and what it tells of the file that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from torch import Tensor, nn

from lottery.deploy.inputs import Inputs, as_inputs
from lottery.foundations.registry import Registry
from lottery.masks.masks import Masks
from lottery.pruning.graph.attributes import other_sizes


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network, and what a format may need to write and check it.

    Args:
        module: what is written, with zeros where it was pruned.
        example: what `forward` takes, a batch: a tensor or a tuple of them.
        masks: of its prunable parameters, True = kept; None: what is not zero.
        before: the module before it was compacted; None where it was not.
        data: the example in words.
        notes: where the network comes from, for formats that have room for it. Plain data.
    """

    module: nn.Module
    example: Any
    masks: Masks | None = None
    before: nn.Module | None = None
    data: str = "the example"
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def built(self) -> nn.Module:
        """The module in the shapes that its class gives it, into which what was written is loaded."""
        return self.module if self.before is None else self.before

    @property
    def sizes(self) -> dict[str, int]:
        """The attributes of modules that note sizes and that compaction changed, by place, with their values."""
        return {} if self.before is None else other_sizes(self.before, self.module)

    @property
    def inputs(self) -> Inputs:
        """The arguments of `forward`."""
        return as_inputs(self.example)

    @property
    def given(self) -> list[str]:
        """Names for the inputs, for lines that run what was loaded: parts of `batch`, or `batch` itself."""
        if isinstance(self.example, Tensor):
            return ["batch"]
        return [f"batch[{index}]" for index in range(len(self.example))]


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        size: bytes.
        check: how it was checked and what that gave, in words.
        load: lines of Python that load it. `module` stands for a freshly built model, `batch` for inputs.
    """

    size: int
    check: str
    load: Sequence[str]


@dataclass(frozen=True)
class Option:
    """A setting of one format: a keyword of its function, and ``--name`` on the command line.

    Args:
        name: of the keyword.
        about: a line of help: of which format it is, what it does, and what happens without it.
        type: makes the value from text.
        choices: all that it may be; empty: anything.
        metavar: what stands for the value in the help, where there are no choices.
    """

    name: str
    about: str
    type: Callable[[str], object] = str
    choices: tuple[str, ...] = ()
    metavar: str | None = None


Write: TypeAlias = Callable[..., Written]  # of an Exportable, a Path and the options
W = TypeVar("W", bound=Write)


def _one_file(path: Path) -> list[Path]:
    return [path]


def _nothing(**_: object) -> None:
    """All options and packages will do."""


@dataclass(frozen=True)
class Format:
    """A format that networks are exported to; `register` makes one of a function.

    Args:
        name: what Python and the command line call it.
        about: a line about it.
        write: writes a network to a path, checks what it wrote, and says so.
        options: its settings.
        files: the files that it makes of a path.
        check: takes the options, and refuses what is wrong or missing before any work is done.
    """

    name: str
    about: str
    write: Write
    options: tuple[Option, ...] = ()
    files: Callable[[Path], Sequence[Path]] = _one_file
    check: Callable[..., None] = _nothing


_writers: Registry[Write] = Registry(
    argument="to", kind="format", plural="formats", accepts=callable, otherwise="none other"
)
_formats: dict[str, Format] = {}


def register(
    name: str,
    *options: Option,
    files: Callable[[Path], Sequence[Path]] = _one_file,
    check: Callable[..., None] = _nothing,
) -> Callable[[W], W]:
    """Decorator: make a format of a function of an `Exportable`, a path, and the options as keywords with defaults.

    The first line of its docstring is what the help says of it. It raises ValueError where the network cannot be had in
    this format.

    Args:
        name: what Python and the command line call it.
        options: its settings.
        files: the files that it makes of a path; default: one, the path itself.
        check: takes the options, and raises ValueError for what is wrong or missing before any work is done.

    Raises:
        ValueError: another format has the name or an option of that name.
    """
    for option in options:
        for other in _formats.values():
            if other.name != name and option.name in {o.name for o in other.options}:
                raise ValueError(
                    f"the option {option.name!r} is of the format {other.name!r} already: give that of {name!r} another"
                    " name"
                )

    def decorate(write: W) -> W:
        _writers.register(name)(write)
        about = (write.__doc__ or "").strip().split("\n")[0].removesuffix(".")
        _formats[name] = Format(name, about, write, options, files, check)
        return write

    return decorate


def available() -> dict[str, str]:
    """Every format with one line about it, in the order in which they were registered."""
    return {name: known.about for name, known in _formats.items()}


def find(name: str) -> Format:
    """A format by its name.

    Raises:
        ValueError: there is none; the message lists what is close, and all.
    """
    _writers.resolve(name)
    return _formats[name]
