"""What a ticket saves: a network dense, masked, compacted and sparse, side by side on this device."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lottery import storage
from lottery.deploy.clock import alone
from lottery.deploy.compaction.compaction import compact
from lottery.deploy.costs.flops import count
from lottery.deploy.costs.measure import latencies, peak_memory
from lottery.deploy.costs.variants import BOTH, COMPACTED, DENSE, MASKED, SPARSE, Cost, Variant
from lottery.deploy.inputs import Inputs, as_inputs, batch_of, device_of, has_samples, moved, sample_of
from lottery.deploy.sparse import file as sparse_file
from lottery.deploy.sparse.compute import sparsify
from lottery.foundations.names import canonical, owner_of, parameters_of, uncompiled, weights_of
from lottery.foundations.tensors_in import outputs_in, read
from lottery.masks.masks import Masks
from lottery.masks.prunable import matching
from lottery.tickets.baking import bake

Say = Callable[[str], None]


def cost(
    module: nn.Module,
    masks: Mapping[str, Tensor],
    example_input: object,
    batch_sizes: Sequence[int] = (1, 64),
    *,
    keep: Sequence[str] = (),
    measured: bool = True,
    device: str | torch.device | None = None,
    seconds: float = 3.0,
    say: Say = lambda what: None,
) -> Cost:
    """What a network costs in each of its forms.

    Everything is done on copies, in eval mode. The dense network has the module's own weights; where these are zero
    already, random ones of their size stand in for what was pruned.

    Args:
        module: the network, with or without zeros in place of pruned weights.
        masks: parameter name to boolean tensor, True = kept.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch. Larger
            batches repeat its samples. What is no batch, such as the nodes and edges of a graph, counts as one sample,
            and is measured as such alone.
        batch_sizes: at which latency and memory are measured.
        keep: patterns of layers that are not compacted; see `lottery.deploy.compact`.
        measured: whether latency and memory are measured, and sparse kernels tried for that.
        device: where; default: where the module is.
        seconds: to time at each batch size, about.
        say: told what is being done.

    Raises:
        ValueError: the masks do not fit, a batch size is not positive, forward fails on the example or gives no tensor,
            or the device is not there. What cannot be compacted or made sparse is no error but is said in the result.

    Example:
        >>> net = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
        >>> masks = {"0.weight": torch.ones(10, 20) > 0, "2.weight": (torch.arange(10) < 5).expand(2, 10)}
        >>> found = cost(net, masks, torch.zeros(1, 20), measured=False)
        >>> found.table()["parameters"].to_dict()
        {'dense': 232, 'masked': 232, 'compacted': 117, 'sparse': 222, 'both': 117}
    """
    masks = Masks(masks)
    batch_sizes = check_batch_sizes(batch_sizes) if measured else ()
    where = device_of(module) if device is None else check_device(device)
    module = copy.deepcopy(uncompiled(module)).to("cpu").eval()
    inputs = moved(as_inputs(example_input), "cpu")
    masks.check(parameters_of(module))
    _check_forward(module, inputs)
    _check_keep(module, keep)
    zeros = bake(copy.deepcopy(module), masks)
    whole = sample_of(module, inputs) is inputs
    if whole and batch_sizes:
        batch_sizes = (1,)
    flops = count(zeros, masks, inputs)
    modules = {DENSE: _filled(module, masks), MASKED: zeros}
    variants = {name: _stored(module, flops.dense) for name, module in modules.items()}
    refused: dict[str, str] = {}
    removed, stayed = 0, {}
    say("removing dead units")
    try:
        compaction = compact(zeros, inputs, keep=keep)
    except ValueError as error:
        refused[COMPACTED] = str(error)
    else:
        removed, stayed = sum(compaction.removed.values()), dict(compaction.stayed)
        small = compaction.module
        small_masks = _nonzeros(small, masks)
        small_flops = count(small, small_masks, inputs)
        variants[COMPACTED] = _stored(small, small_flops.dense)
    say("encoding masks")
    dtypes = {name: p.dtype for name, p in parameters_of(zeros).items()}
    layers = sparse_file.layer_sizes(masks, dtypes=dtypes)
    variants[SPARSE] = _stored_sparse(zeros, masks, flops.sparse)
    if removed:
        modules[COMPACTED] = small
        variants[BOTH] = _stored_sparse(small, small_masks, small_flops.sparse)
    modules = {name: one.to(where) for name, one in modules.items()}
    inputs = moved(inputs, where)
    kernels: dict[str, dict[int, dict[str, str]]] = {SPARSE: {}, BOTH: {}}
    for size in batch_sizes:
        batch = inputs if whole else batch_of(inputs, size)
        timed = {**modules, **_sparse(modules, batch, size, kernels, refused, say)}
        say(f"batch size {size}: timing")
        found = latencies(timed, batch, seconds=seconds, say=say)
        for name, one in timed.items():
            memory = {**variants[name].memory, size: peak_memory(one, batch)}
            latency = {**variants[name].latency, size: found[name]}
            variants[name] = dataclasses.replace(variants[name], memory=memory, latency=latency)
    return Cost(
        variants=variants,
        kept=masks.kept,
        prunable=masks.total,
        flops=flops,
        units=_units(zeros, masks),
        removed=removed,
        stayed=stayed,
        refused=refused,
        encodings=sparse_file.totals(layers),
        chosen={str(name): str(code) for name, code in layers["chosen"].items()},
        kernels={name: by_size for name, by_size in kernels.items() if by_size},
        batch_sizes=batch_sizes,
        device=_in_words(where),
    )


def check_batch_sizes(batch_sizes: Sequence[int]) -> tuple[int, ...]:
    """The batch sizes, each once.

    Raises:
        ValueError: there is none, or one is no positive integer.
    """
    wrong = [n for n in batch_sizes if not isinstance(n, int) or n < 1]
    if wrong or not batch_sizes:
        raise ValueError(f"batch sizes {list(batch_sizes)}: give one or more positive integers, such as 1 and 64")
    return tuple(dict.fromkeys(batch_sizes))


def check_device(name: str | torch.device) -> torch.device:
    """The device of a name.

    Raises:
        ValueError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {str(name)!r} is not there: {reason}. Leave it out to measure on the CPU.") from error
    return device


def _sparse(
    modules: Mapping[str, nn.Module],
    batch: Inputs,
    size: int,
    kernels: dict[str, dict[int, dict[str, str]]],
    refused: dict[str, str],
    say: Say,
) -> dict[str, nn.Module]:
    """The masked and the compacted network on sparse kernels, where one pays; notes what was chosen and refused."""
    found = {}
    for name, of in ((SPARSE, MASKED), (BOTH, COMPACTED)):
        if of not in modules or name in refused:
            continue
        say(f"batch size {size}: trying sparse kernels in the {of} network")
        try:
            made = sparsify(modules[of], batch)
        except ValueError as error:
            refused[name] = str(error)
            continue
        kernels[name][size] = {layer.name: layer.chosen for layer in made.layers}
        if any(layer.chosen != "dense" for layer in made.layers):
            found[name] = made.module
    return found


def _stored(module: nn.Module, flops: int) -> Variant:
    """A module as it is, in a plain file; what is tied is stored once."""
    tensors, seen = {}, set()
    for name, tensor in weights_of(module).items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in seen or not tensor.numel():
            tensors[name] = tensor
        seen.add(place)
    return Variant(
        parameters=sum(p.numel() for p in module.parameters()), bytes=len(storage.encode_tensors(tensors)), flops=flops
    )


def _stored_sparse(module: nn.Module, masks: Masks, flops: int) -> Variant:
    parameters = sum(p.numel() for p in module.parameters())
    return Variant(
        parameters=parameters - (masks.total - masks.kept),
        bytes=len(sparse_file.encode(weights_of(module), masks)),
        flops=flops,
    )


def _filled(module: nn.Module, masks: Masks) -> nn.Module:
    """The dense network: random numbers of the size of the others where pruned weights are zero."""
    generator = torch.Generator().manual_seed(0)
    module = copy.deepcopy(module)
    parameters = parameters_of(module)
    with torch.no_grad():
        for name, mask in masks.items():
            weight = parameters[name]
            size = weight.double().square().mean().sqrt().cpu()
            drawn = size * torch.randn(mask.shape, generator=generator)
            empty = ~mask.to(weight.device) & (weight == 0)
            weight.copy_(torch.where(empty, drawn.to(weight), weight))
    return module


def _nonzeros(module: nn.Module, masks: Masks) -> Masks:
    """Masks of what is left of the masked parameters in a smaller module."""
    parameters = parameters_of(module)
    return Masks({name: parameters[name] != 0 for name in masks})


def _check_forward(module: nn.Module, inputs: Inputs) -> None:
    if not has_samples(inputs):
        raise ValueError(
            "the example input holds no sample: give a tensor, or a tuple of them, whose first dimension is the batch"
        )
    try:
        with torch.no_grad():
            output = read(module(*inputs))
    except Exception as error:  # whatever forward does
        raise ValueError(f"forward of {type(module).__name__} fails on the example input: {error}") from error
    outputs_in(output, type(module).__name__)


def _check_keep(module: nn.Module, keep: Sequence[str]) -> None:
    """What `compact` would refuse because of the pattern alone."""
    names = [canonical(path) for path, _ in module.named_modules()]
    names += parameters_of(module)
    for pattern in keep:
        matching(pattern, names, what="keep")


def _units(module: nn.Module, masks: Masks) -> int:
    """The output units of the prunable layers."""

    def of(name: str) -> int:
        layer = type(owner_of(module, name)).__name__
        made_second = layer.startswith(("ConvTranspose", "Embedding"))
        return masks[name].shape[1 if made_second else 0]

    return sum(of(name) for name in masks if masks[name].ndim > 1)


def _in_words(device: torch.device) -> str:
    """The device and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if alone(device):
        return f"one thread of the {device.type.upper()} (processor time)"
    return f"{torch.get_num_threads()} threads of the {device.type.upper()}"
