"""Which units go, exactly; and why the others that are not live stay."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from lottery.deploy.compaction.units import LayerUnits, Units, layer_of, until_stable
from lottery.pruning.graph.labels import FIXED, NOTHING, ends
from lottery.pruning.graph.tracer import GIVEN_BACK

UNCALLED = "not called by forward: it keeps its size"


class Removal:
    """What goes of a network.

    A bundle without live units goes when that changes no output: nothing reads its units, or they are constant and what
    they add can be put into the bias of the layers that read them. Each rule that makes units stay is applied until
    none finds any more.

    Args:
        units: the units.
        keep: names of weights whose units stay.
        because: layer whose units stay to why, in words.
    """

    def __init__(self, units: Units, keep: Collection[str] = (), because: Mapping[str, str] | None = None) -> None:
        self.units = units
        follower, bundle = units.follower, units.bundle
        self._meets = ends(follower.meets)
        self._why: dict[int, str] = {}
        self._stays = torch.zeros(int(bundle.max()) + 1, dtype=torch.bool)
        self._stays[bundle[units.live]] = True
        self._stays[bundle[[NOTHING, FIXED]]] = True
        for fixed, reason in follower.labels.fixed:
            self._keep(fixed, reason)
        for layer in units.layers:
            if layer.call.weight in keep:
                self._keep(layer.made, "keep names the layer")
            if because and layer.name in because:
                self._keep(layer.made, because[layer.name])
        while any(rule() for rule in (self._constants, self._elements, self._last)):
            pass

    @property
    def stays(self) -> Tensor:
        """By label."""
        return self._stays[self.units.bundle]

    # what is found

    def kept(self) -> dict[str, tuple[Tensor, ...]]:
        """Owned tensor to what stays of it along each dimension, True = stays; those that stay whole are left out."""
        elements = self.units.follower.elements
        elements_kept = self._elements_kept()
        found = {}
        for name in {name: None for name, _ in self.units.along} | elements:
            shape = self.units.owned[name].shape
            dims = [torch.ones(n, dtype=torch.bool) for n in shape]
            for dim in range(len(shape)):
                if (name, dim) in self.units.along:
                    dims[dim] = self.stays[self.units.along[name, dim]]
            if name in elements:
                dims = _marginals(elements_kept[elements[name].long()])
            if not all(bool(stays.all()) for stays in dims):
                found[name] = tuple(dims)
        return found

    def sizes(self) -> dict[str, int]:
        """Place of an attribute that is the number of some units to how many stay, where it changes."""
        found = {}
        for place, rows in self.units.follower.labels.sizes.items():
            left = int(self.stays[rows.long()].any(1).sum())
            if left < len(rows):
                found[place] = left
        return found

    def added(self) -> dict[str, Tensor]:
        """Bias to what constant units that go are worth to it, float64."""
        found: dict[str, Tensor] = {}
        for layer in self._reading():
            if layer.call.bias is not None:
                found.setdefault(layer.call.bias, self._worth(layer))
        return {name: worth for name, worth in found.items() if worth.any()}

    def removed(self) -> dict[str, int]:
        """Layer to how many of the units that it makes go."""
        gone: dict[str, int] = {}
        for name, made in self._made():
            gone[name] = gone.get(name, 0) + int((~self.stays[made[0]]).sum())
        return {name: count for name, count in gone.items() if count}

    def stayed(self) -> dict[str, str]:
        """Layer to why units that are not live stay all the same, in words."""
        words: dict[str, list[str]] = {}
        for name, made in self._made():
            dead = torch.stack([self.stays[m] & ~self.units.live[m] for m in made])
            counts: dict[tuple[str, str], int] = {}
            for label in made[0][dead.all(0)].tolist():
                bundle = int(self.units.bundle[label])
                why = self._why.get(bundle, "bundled with live units")
                if why != GIVEN_BACK:
                    what = "reads" if self.units.driven[label] else "writes"
                    counts[what, why] = counts.get((what, why), 0) + 1
            for (what, why), count in counts.items():
                words.setdefault(name, []).append(f"{_units(count, what)}: {why}")
        for name, place in self.units.follower.unfollowed.items():
            if zeros := _zeros(self.units.owned[name]):
                reason = f"{zeros} in {name}: {place} is not followed"
                words.setdefault(layer_of(name), []).append(reason)
        if self.kept():
            words |= {name: [UNCALLED] for name in self.units.uncalled}
        for name, layers in self.units.awaited.items():
            words[name] = [f"{UNCALLED}, and so do those that it may read: {', '.join(layers)}"]
        return {name: "; ".join(reasons) for name, reasons in words.items()}

    def _made(self) -> Iterator[tuple[str, list[Tensor]]]:
        """Each layer, with the labels of what it makes each time that it is used."""
        made: dict[tuple[str, int], list[Tensor]] = {}
        for layer in self.units.layers:
            place = layer.call.weight, layer.call.column
            made.setdefault(place, []).append(layer.made)
        return ((layer_of(name), labels) for (name, _), labels in made.items())

    # the rules

    def _keep(self, labels: Tensor, reason: str) -> bool:
        """These stay; whether any of them did not before."""
        bundles = self.units.bundle[labels.flatten()].unique()
        new = bundles[~self._stays[bundles]]
        self._stays[new] = True
        self._why.update(dict.fromkeys(new.tolist(), reason))
        return bool(len(new))

    def _constants(self) -> bool:
        """Constant units stay where what they add cannot be put into a bias."""
        grown = False
        worth: dict[str, Tensor] = {}
        for layer in self._reading():
            assert layer.takes is not None
            call, going = layer.call, self._going(layer)
            takes, (low, high) = layer.takes.expand_as(going), _ranges(layer)
            varies = ~(high - low <= 1e-13 * high.abs().clamp(min=1))
            counts = going & ~varies & ((low != 0) | (high != 0))
            for which, reason in (
                (going & varies, f"constant, but not the same everywhere, where {layer.name} reads them"),
                (counts & (not call.uniform), f"constant, not zero, and {layer.name} pads with zeros or is transposed"),
                (counts & (call.bias is None), f"constant, not zero, and {layer.name} has no bias to take that in"),
            ):  # fmt: skip
                grown |= self._keep(takes[which], reason)
            for place, sized in self.units.sized.items():
                reason = f"constant, not zero, and what {place} makes of that may depend on the input or its size"
                grown |= self._keep(takes[going & sized[takes]], reason)
            if call.bias is not None and not grown:
                mine = self._worth(layer)
                known = worth.setdefault(call.bias, mine)
                if not torch.allclose(mine, known, rtol=1e-14, atol=1e-14):
                    reason = f"constant, not zero, and {call.bias} is used several times"
                    grown |= self._keep(takes[counts], reason)
        return grown

    def _elements(self) -> bool:
        """Units stay that are no whole rows, columns, ... of a tensor that is combined with them."""
        kept, grown = self._elements_kept(), False
        part, met = self._meets
        for name, labels in self.units.follower.elements.items():
            mine = kept[labels.long()]
            box = torch.ones_like(mine)
            for dim, stays in enumerate(_marginals(mine)):
                box &= stays.reshape([-1 if d == dim else 1 for d in range(mine.ndim)])
            if not torch.equal(box, mine):
                gone = labels.long()[~mine]
                with_them = torch.cat([gone, met[torch.isin(part, gone)]])
                grown |= self._keep(with_them, f"no whole rows or columns of {name}")
        return grown

    def _last(self) -> bool:
        """A layer keeps one unit."""
        layers = self.units.layers
        empty = [x.made[:1] for x in layers if not self.stays[x.made].any()]
        return bool(empty) and self._keep(torch.cat(empty), "a layer keeps one unit")

    # constants

    def _reading(self) -> Iterator[LayerUnits]:
        """The layers that may read constant units that go."""
        return (x for x in self.units.reading if x.takes is not None)

    def _needs(self, layer: LayerUnits) -> Tensor:
        """Which of the units that a layer makes must have their right value, shape (out,)."""
        return self.stays[layer.made] & self.units.read[layer.made]

    def _going(self, layer: LayerUnits) -> Tensor:
        """Which of the units that a layer takes go though it reads them, shape (out, in / groups)."""
        assert layer.takes is not None
        return layer.alive & self._needs(layer)[:, None] & ~self.stays[layer.takes]

    def _worth(self, layer: LayerUnits) -> Tensor:
        """What the constant units that go add to each unit that a layer makes, shape (out,)."""
        call = layer.call
        weight = self.units.owned[call.weight].detach()
        weight = weight.transpose(0, 1) if call.column else weight
        weight = weight.flatten(2).sum(2) if weight.ndim > 2 else weight
        low, high = _ranges(layer)
        return torch.where(self._going(layer), weight * ((low + high) / 2), 0).sum(1)

    # tensors that are combined with units element by element

    def _elements_kept(self) -> Tensor:
        """By label: elements of owned tensors stay with any of the units that they meet, or are joined with."""
        part, met = self._meets
        bundle = self.units.bundle
        joined = torch.zeros(len(self._stays), dtype=torch.bool)
        for layer in self.units.layers:
            joined[bundle[layer.made]] = True
        alone = torch.zeros(len(bundle), dtype=torch.bool)
        for labels in self.units.follower.elements.values():
            alone[labels.long()] = True
        alone &= ~joined[bundle]
        alone[part] = False
        kept = self.stays | alone

        def follow() -> None:
            kept[part[kept[met]]] = True

        until_stable(follow, kept)
        return kept


def _ranges(layer: LayerUnits) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of what a layer takes, as its weight has them: (out or 1, in / groups)."""
    call, outputs = layer.call, len(layer.made)
    assert call.low is not None and call.high is not None
    each = outputs // call.groups if call.groups > 1 else 1
    low, high = (t.reshape(call.groups, -1).repeat_interleave(each, 0) for t in (call.low, call.high))
    return low, high


def _marginals(kept: Tensor) -> list[Tensor]:
    """Along each dimension, where something stays."""
    along = [kept.movedim(d, 0).reshape(n, -1) for d, n in enumerate(kept.shape)]
    return [part.any(1) for part in along]


def _units(count: int, what: str) -> str:
    if count == 1:
        return f"1 unit that nothing {what} stays"
    return f"{count} units that nothing {what} stay"


def _zeros(weight: Tensor) -> str:
    """The rows and columns of zeros, in words."""
    if weight.ndim < 2:
        return ""
    alive = ((weight != 0).flatten(1).any(1), (weight != 0).transpose(0, 1).flatten(1).any(1))
    found = [
        f"{n} {what}" + "s" * (n > 1)
        for what, has in zip(("row", "column"), alive, strict=True)
        if (n := int((~has).sum()))
    ]  # fmt: skip
    return " and ".join(found) + " of zeros" if found else ""
