"""Where rounds start from: each a function that gives the argument `rewind`."""

from __future__ import annotations

from conformance.axis import Axis

REWINDS = rewind = Axis("rewind")


def point(step: str, what: str, needs: str = "") -> None:
    def make() -> str:
        return step

    make.__doc__ = what
    rewind(name=step, needs=needs)(make)


point("3it", "inside the second epoch")
point("init", "the initial weights")
point("1ep", "between the first epoch and the second", needs="epochs")
point("2it", "inside the first epoch")
