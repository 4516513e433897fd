"""Makes the tensors of a module smaller in place, with the sizes that its layers note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import Tensor, nn

from lottery.foundations.names import buffers_of, canonical, parameters_of, renamed, uncompiled
from lottery.pruning.graph.attributes import renoted
from lottery.pruning.graph.bundles import by_whole_groups

M = TypeVar("M", bound=nn.Module)


def cut(
    module: M,
    kept: Mapping[str, Sequence[Tensor]],
    added: Mapping[str, Tensor] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> M:
    """Leave out parts of the tensors that a module owns, in place.

    The tensors stay the same objects, so that tied ones stay tied and each keeps its class and `requires_grad`;
    gradients are dropped.

    Args:
        module: the module; a copy of a trained one, as a rule.
        kept: name of a parameter or buffer to a boolean tensor for each of its dimensions, True = stays.
        added: name of a parameter to what is added to it before it is cut.
        sizes: place of an attribute, such as "blocks.0.attention.heads", to the size that it notes then.

    Returns:
        The module.

    Example:
        >>> import torch
        >>> first = [torch.tensor([True, False, True]), torch.tensor([True, True])]
        >>> cut(nn.Linear(2, 3, bias=False), {"weight": first})
        Linear(in_features=2, out_features=2, bias=False)
    """
    tensors = owned_tensors(module)
    smaller = {}
    for name, value in (added or {}).items():
        tensor = tensors[name]
        sum_ = tensor.data.double() + value.to(tensor.device)
        tensor.data = sum_.to(tensor.dtype)
    for name, dims in kept.items():
        data = tensors[name].data
        smaller[name] = sliced(data, dims) if not all(map(_whole, dims)) else data
    _replace(module, smaller)
    renoted(module, sizes or {})
    return module


def sliced(tensor: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """What stays of a tensor; dimensions of length 1 stay where the tensor broadcasts."""
    for dim, stays in enumerate(kept):
        if tensor.shape[dim] == len(stays) and not _whole(stays):
            indices = stays.nonzero().flatten().to(tensor.device)
            tensor = tensor.index_select(dim, indices)
    return tensor


def resize(module: M, state_dict: Mapping[str, Tensor], sizes: Mapping[str, int] | None = None) -> M:
    """Load the state dict of a compacted module into a module of the architecture that it had before, in place.

    Args:
        module: a module of the first, larger architecture, such as a freshly built one.
        state_dict: the state dict of the smaller module.
        sizes: those of its attributes that changed, as `Compaction.sizes` has them.

    Returns:
        The module, with the sizes and the values of the state dict.

    Raises:
        ValueError: a name, also of `sizes`, is unknown or missing, or a tensor is larger than the module's or has other
            dimensions.

    Example:
        >>> small = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> resize(nn.Sequential(nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 1)), small.state_dict())[0]
        Linear(in_features=2, out_features=3, bias=True)
    """
    plain = uncompiled(module)
    state_dict, there = renamed(state_dict), renamed(plain.state_dict(keep_vars=True))
    wrong = [f"{n}: missing in the module" for n in state_dict if n not in there]
    wrong += [f"{n}: missing in the state dict" for n in there if n not in state_dict]
    shared = {
        name: (tensor, there[name])
        for name, tensor in state_dict.items()
        if isinstance(tensor, Tensor) and isinstance(there.get(name), Tensor)
    }
    wrong += [
        f"{name}: {tuple(new.shape)} in the state dict does not fit into {tuple(old.shape)} in the module"
        for name, (new, old) in shared.items()
        if new.ndim != old.ndim or any(a > b for a, b in zip(new.shape, old.shape))
    ]
    if wrong:
        raise ValueError(f"the state dict is not that of a smaller {type(plain).__name__}:\n  " + "\n  ".join(wrong))
    renoted(plain, sizes or {})
    tensors = owned_tensors(plain)
    names = {id(tensor): name for name, tensor in tensors.items()}
    _replace(
        plain,
        {
            names[id(old)]: old.data.new_empty(new.shape)
            for new, old in shared.values()
            if new.shape != old.shape and id(old) in names
        },
    )
    plain.load_state_dict({name: state_dict[canonical(name)] for name in plain.state_dict()})
    return module


def owned_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module by canonical name, tied ones once, under their first name."""
    return {**parameters_of(module), **buffers_of(module)}


def _whole(stays: Tensor) -> bool:
    return bool(stays.all())


def _replace(module: nn.Module, smaller: Mapping[str, Tensor]) -> None:
    """Give tensors other data, and note the sizes in the layers that own them."""
    tensors = owned_tensors(module)
    resized = {id(tensors[name]) for name, data in smaller.items() if data.shape != tensors[name].shape}
    for name, data in smaller.items():
        if id(tensors[name]) in resized:
            tensors[name].grad = None
        tensors[name].data = data
    for part in module.modules():
        if any(id(tensor) in resized for tensor in (*part._parameters.values(), *part._buffers.values())):
            _note_sizes(part)


def _note_sizes(part: nn.Module) -> None:
    """The sizes that a layer of torch keeps as attributes, by its tensors."""
    weight = part._parameters.get("weight")
    if isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, nn.Embedding):
        part.num_embeddings, part.embedding_dim = part.weight.shape
    elif isinstance(part, nn.modules.conv._ConvNd):
        _note_sizes_of_convolution(part)
    elif isinstance(part, nn.modules.batchnorm._NormBase):
        part.num_features = next(len(t) for t in (weight, part.running_mean) if t is not None)
    elif isinstance(part, nn.PReLU):
        part.num_parameters = len(part.weight)
    elif isinstance(part, nn.LayerNorm) and weight is not None:
        part.normalized_shape = tuple(weight.shape)
    elif isinstance(part, nn.RNNBase):
        part.input_size, part.hidden_size = (getattr(part, f"weight_{x}_l0").shape[1] for x in ("ih", "hh"))
    elif isinstance(part, nn.RNNCellBase):
        part.input_size, part.hidden_size = part.weight_ih.shape[1], part.weight_hh.shape[1]
    elif isinstance(part, nn.Bilinear):
        part.out_features = len(part.weight)
    elif isinstance(part, nn.EmbeddingBag):
        part.num_embeddings, part.embedding_dim = part.weight.shape


def _note_sizes_of_convolution(part: nn.modules.conv._ConvNd) -> None:
    first, second = part.weight.shape[:2]
    outputs, inputs = part.out_channels // part.groups, part.in_channels // part.groups
    each = inputs if part.transposed else outputs
    if part.groups > 1 and by_whole_groups(outputs, inputs):
        part.groups = first // each
    elif first % part.groups:
        part.groups = first  # first the same positions of each went, up to the last, and then whole groups
    sizes = first, second * part.groups
    part.in_channels, part.out_channels = sizes if part.transposed else sizes[::-1]
