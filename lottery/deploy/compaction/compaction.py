"""Makes a baked module physically smaller, with exactly the same outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from lottery.deploy.compaction.copying import copied
from lottery.deploy.compaction.optimizing import smaller_state
from lottery.deploy.compaction.removal import Removal
from lottery.deploy.compaction.surgery import cut, owned_tensors
from lottery.deploy.compaction.units import Units
from lottery.deploy.compaction.verification import verified
from lottery.deploy.inputs import Inputs, as_inputs, batch_of
from lottery.foundations.names import canonical, parameters_of, uncompiled
from lottery.foundations.streams import isolated
from lottery.foundations.tensors_in import with_tensors
from lottery.foundations.undisturbed import plain_attention, refreshed, undisturbed
from lottery.masks.prunable import matching
from lottery.pruning.graph.bundles import by_whole_groups
from lottery.pruning.graph.tracer import UnitTracer, traced
from lottery.pruning.graph.uncalled import keep_for_uncalled

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Compaction:
    """A module made smaller.

    Attributes:
        module: the smaller module: a copy, of the same classes, with the same names of parameters and buffers.
        source: the module that it was made from, untouched.
        removed: layer to how many of the units that it made are gone.
        stayed: layer to why units that are not live stay all the same, in words; where units went, also the layers that
            no followed forward calls, and that keep their size.
        kept: name of a parameter or buffer that shrank to a boolean tensor for each of its dimensions, True = stays.
        sizes: place of an attribute that notes a size, such as "blocks.0.attention.heads", to its new value.
    """

    module: nn.Module
    source: nn.Module
    removed: Mapping[str, int]
    stayed: Mapping[str, str]
    kept: Mapping[str, Sequence[Tensor]] = field(repr=False)
    sizes: Mapping[str, int] = field(repr=False, default_factory=dict)

    @property
    def parameters_before(self) -> int:
        """Elements of all parameters of the source, tied ones once."""
        return sum(p.numel() for p in self.source.parameters())

    @property
    def parameters_after(self) -> int:
        """Elements of all parameters of the smaller module."""
        return sum(p.numel() for p in self.module.parameters())

    def table(self) -> pandas.DataFrame:
        """One row per parameter: its shape and number of elements, before and after."""
        import pandas

        after = parameters_of(self.module)
        rows = [
            {
                "parameter": name,
                "shape_before": tuple(p.shape),
                "shape_after": tuple(after[name].shape),
                "before": p.numel(),
                "after": after[name].numel(),
            }
            for name, p in parameters_of(self.source).items()
        ]
        return pandas.DataFrame(rows).set_index("parameter")

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The state of an optimizer over the source, for one that is built the same way over the smaller module.

        Momentum and the like shrink as their parameters do, so that training goes on where it was. Where nothing reads
        the units that went, it goes on as the masked module would. That is tried with one step of copies, in double
        precision: both must move the weights that stay alike.

        Args:
            optimizer: over parameters of `source`, in any groups.

        Returns:
            A state dict for ``load_state_dict`` of the other optimizer.

        Raises:
            ValueError: the state of a parameter that shrank holds what has not its shape, as that of L-BFGS does; or
                the step of the smaller module is another one, as with Adafactor, which averages over rows and columns.

        Example:
            >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
            >>> _ = nn.init.zeros_(net[2].weight[:, :1].data)
            >>> optimizer = torch.optim.Adam(net.parameters())
            >>> net(torch.ones(1, 2)).sum().backward(); optimizer.step()
            >>> _ = nn.init.zeros_(net[2].weight[:, :1].data)
            >>> small = compact(net, torch.ones(1, 2))
            >>> small.optimizer_state(optimizer)["state"][0]["exp_avg"].shape
            torch.Size([2, 2])
        """
        names = {id(p): name for name, p in parameters_of(self.source).items()}
        owned = [names.get(id(p), "") for group in optimizer.param_groups for p in group["params"]]
        return smaller_state(optimizer, owned, self.kept)

    def __repr__(self) -> str:
        return (
            f"Compaction({self.parameters_before:,} -> {self.parameters_after:,} parameters,"
            f" {sum(self.removed.values()):,} units removed)"
        )


def compact(module: nn.Module, example_input: object, *, keep: Sequence[str] = ()) -> Compaction:
    """Remove the units of a network that nothing reads or nothing writes, judged by the weights that are zero.

    What goes is found with the labels that follow every element through one forward pass, the same as those that
    channel-structured pruning goes by; a library's graph of layers, as torch-pruning's, would be a second truth.

    Units that nothing writes are constant; what they add is put into the bias of the layers that read them, where that
    is exact at every size of the input. The forward in training is followed too. The smaller module is then run beside
    the module, both in double precision, or in float32 where forward makes float32 of its own, on the example, on
    random inputs of its shapes and of other sizes, and in training; the units of a layer without which it stops or
    gives something else stay.

    Removed are units of linear layers, convolutions and embeddings, with what they have in biases, normalisation by
    channels and other tensors that are combined with them; of convolutions in groups the same positions of each group,
    and whole groups of depthwise ones; hidden units of recurrent layers from all gates, layers and directions; whole
    heads of attention by `scaled_dot_product_attention` or products. Where forward splits units by sizes that follow,
    as `chunk` does, the same positions of each part go; a size that is an attribute of a module, such as
    ``self.heads``, shrinks along; units that it counts in numbers stay. What goes into a layer normalisation,
    `nn.MultiheadAttention` or any other function that is not followed stays, and so does a layer whose weights are
    computed from others, and what `forward` does not use, with the last units of the width of its inputs, which
    `training_step` may put into it.

    Args:
        module: the module, its pruned weights zero, as `bake` leaves them. It is not changed.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch, unless
            `forward` takes no single sample.
        keep: glob patterns of names of layers or parameters whose units stay.

    Raises:
        ValueError: `keep` matches nothing, masks of torch.nn.utils.prune are not permanent, forward cannot be followed
            or gives no tensor, or computes something else each time; the message names the layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> _ = nn.init.zeros_(net[0].weight[:3].data), nn.init.zeros_(net[2].weight[:, 4:].data)
        >>> small = compact(net, torch.zeros(1, 4))
        >>> small.module[0], dict(small.removed), small.parameters_before, small.parameters_after
        (Linear(in_features=4, out_features=1, bias=True), {'0': 7}, 58, 9)

    Source: constant units into the bias of what reads them, Sietsma & Dow, "Creating artificial neural networks that
    generalize", Neural Networks 4(1), 1991.
    """
    plain = uncompiled(module)
    _check_seen(plain)
    names = _kept_names(plain, keep)
    with _apart():
        given = as_inputs(example_input)
        try:
            removal = _removal(plain, given, names, torch.float64)
        except _NotFollowedError:
            if any(p.dtype == torch.float64 for p in plain.parameters()):
                raise
            removal = _removal(plain, given, names, torch.float32)  # forward makes float32 of its own
        kept, added, sizes = removal.kept(), removal.added(), removal.sizes()
    small = refreshed(cut(copied(plain), kept, added, sizes))
    done = Compaction(small, plain, removal.removed(), {**removal.stayed(), **_computed(plain)}, kept, sizes)
    if _in_groups(small) != _in_groups(plain):
        # with one group left, or one unit in each, a convolution ties others than before
        return _joined(done, compact(small, example_input, keep=keep))
    return done


class _NotFollowedError(ValueError):
    """Forward cannot be followed in some precision."""


def _removal(plain: nn.Module, given: Inputs, keep: Collection[str], precision: torch.dtype) -> Removal:
    """What goes of a module, found and tried in a precision, on the CPU."""
    exact = refreshed(copied(plain).to("cpu", precision).eval())
    untouched = copied(exact)  # what it keeps of a pass that is followed cannot be copied
    for parameter in exact.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    inputs = with_tensors(given, lambda x: x.detach().to("cpu", precision if x.is_floating_point() else x.dtype))
    owned = owned_tensors(exact)
    try:
        follower = traced(exact, owned, inputs, exact=True)
    except ValueError as error:
        raise _NotFollowedError(str(error)) from error
    evaluated = _and_in_training(follower, exact, inputs)
    units = Units(follower, owned, evaluated, keep_for_uncalled(exact, follower, inputs))
    return verified(untouched, units, keep, inputs)


def _and_in_training(follower: UnitTracer, module: nn.Module, inputs: Inputs) -> int:
    """Follow the forward in training too, as far as that can be; returns how many calls there were before."""
    before = len(follower.calls)
    for given in (batch_of(inputs, 2), inputs):  # some norms take no single sample in training, and graphs no two
        with undisturbed(module, {}), suppress(ValueError):
            module.train()
            follower.run(module, with_tensors(given, torch.clone))
            break
    return before


def _in_groups(module: nn.Module) -> list[bool]:
    """Of each convolution in groups, whether it loses whole ones."""
    layers = [part for part in module.modules() if isinstance(part, _ConvNd) and part.groups > 1]
    return [by_whole_groups(part.out_channels // part.groups, part.in_channels // part.groups) for part in layers]


def _joined(one: Compaction, other: Compaction) -> Compaction:
    """A compaction, and then one of its module."""
    removed = {name: one.removed.get(name, 0) + other.removed.get(name, 0) for name in {**one.removed, **other.removed}}
    kept = {**other.kept, **one.kept}
    for name in one.kept.keys() & other.kept.keys():
        dims = [stays.clone() for stays in one.kept[name]]
        for stays, then in zip(dims, other.kept[name], strict=True):
            stays[stays.clone()] = then
        kept[name] = dims
    return Compaction(other.module, one.source, removed, other.stayed, kept, {**one.sizes, **other.sizes})


def _check_seen(module: nn.Module) -> None:
    """Make sure that forward does not hide what it computes, and that zeros are in the parameters themselves."""
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise ValueError(  # noqa: TRY004 (a module, as forward's other ways to hide what it does)
                f"{path or 'the module'} is scripted, which hides what it computes: its units cannot be followed."
                " Give the module that it was made from."
            )
        if any(name.endswith("_orig") and f"{name[:-5]}_mask" in part._buffers for name in part._parameters):
            raise ValueError(
                f"{path or type(module).__name__} has masks of torch.nn.utils.prune, which are no zeros yet. Make them"
                " permanent first: torch.nn.utils.prune.remove(layer, 'weight')"
            )


def _computed(module: nn.Module) -> dict[str, str]:
    """The layers whose weights are not parameters but computed from some, and what to do that they shrink too."""
    found = {}
    for path, part in module.named_modules():
        older = any(isinstance(part.__dict__.get(name.removesuffix("_v")), Tensor) for name in part._parameters)
        if older or is_parametrized(part):
            found[path or type(module).__name__] = (
                "its weights are computed from others, as by weight norm. Make them plain first:"
                " torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') or remove_weight_norm"
            )
    return found


def _kept_names(module: nn.Module, keep: Sequence[str]) -> set[str]:
    """The parameters that patterns of names of layers or parameters mean."""
    parameters = list(parameters_of(module))
    parts = [canonical(path) for path, _ in module.named_modules() if path]
    found = {n for pattern in keep for n in matching(pattern, [*parts, *parameters], what="keep")}
    return {p for p in parameters if any(p == n or p.startswith(f"{n}.") for n in found)}


@contextmanager
def _apart() -> Iterator[None]:
    """Random streams stay; gradients are on, and the fast path of attention, which hides functions, is off."""
    with isolated(), torch.inference_mode(False), torch.enable_grad(), plain_attention():
        yield
