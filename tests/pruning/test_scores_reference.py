"""Scores and masks equal those of the papers' own implementations (tests/reference)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.masks.selection import smallest
from lottery.pruning.scopes import erdos_renyi
from lottery.pruning.scores import Context, compute
from lottery.pruning.scores.movement import MovementAccumulator

FILE = np.load(Path(__file__).parent / "reference" / "scores_float64.npz")
MODELS = ("mlp", "convnet", "mlp_zero_bias")
OWN_BIASES = {"name": "synflow", "zero_biases": False}
EXACT = {
    "mag": "magnitude",
    "snip": "snip",
    "snip_4batches": {"name": "snip", "batches": 4},
    "grasp": "grasp",
    "synflow": OWN_BIASES,
    "lamp": "lamp",
    "obd_fisher": "fisher",
    "obd_hessian": "obd",
}


def tensors(model, criterion):
    prefix = f"{model}/{criterion}/"
    return {name.removeprefix(prefix): torch.tensor(FILE[name]) for name in FILE.files if name.startswith(prefix)}


def network(model):
    if model == "convnet":
        first = [nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()]
        second = [nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
        net = nn.Sequential(*first, *second, *head)
    else:
        hidden = [nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()]
        net = nn.Sequential(*hidden, nn.Linear(8, 4))
    net.double().load_state_dict(tensors(model, "state"))
    return net.eval()


def data(model):
    return torch.tensor(FILE[f"{model}/x"]), torch.tensor(FILE[f"{model}/y"])


def context(model, chunks=1, **more):
    net = network(model)
    x, y = data(model)
    return Context(
        net,
        Masks.ones(prunable_parameters(net)),
        batches=lambda: zip(x.chunk(chunks), y.chunk(chunks), strict=True),
        example_input=x,
        **more,
    )


def assert_equal(found, expected, rtol=1e-10):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=rtol, atol=0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("criterion", EXACT)
def test_scores_equal_the_reference(model, criterion):
    chunks = 4 if criterion == "snip_4batches" else 1
    found = compute(EXACT[criterion], context(model, chunks))
    assert_equal(found, tensors(model, criterion))


@pytest.mark.parametrize("model", MODELS)
def test_lookahead_equals_the_reference_which_does_not_fold_batchnorm(model):
    found = compute({"name": "lookahead", "fold_batchnorm": False}, context(model))
    squares = {name: score.square() for name, score in found.items()}
    assert_equal(squares, tensors(model, "lookahead_sq"))


def test_synflow_equals_the_reference_where_biases_are_zero():
    found = compute("synflow", context("mlp_zero_bias"))
    assert_equal(found, tensors("mlp_zero_bias", "synflow"))


# the reference computed these in float32
@pytest.mark.parametrize("model", ["mlp", "mlp_zero_bias"])
def test_wanda_equals_the_reference_in_its_precision(model):
    assert_equal(compute("wanda", context(model)), tensors(model, "wanda"), rtol=5e-7)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("signed", [True, False])
def test_channel_taylor_equals_the_reference_in_its_precision(model, signed):
    found = compute({"name": "taylor_channel", "signed": signed}, context(model))
    channels = {name: (score.sqrt() if signed else score).flatten(1)[:, 0].float() for name, score in found.items()}
    expected = tensors(model, "channel_taylor_mv" if signed else "channel_taylor")
    assert_equal(channels, expected, rtol=5e-7)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("criterion", "score"), [("movement_distance", "distance"), ("magnitude_increase", "magnitude_increase")]
)
def test_scores_of_two_weights_equal_the_reference(model, criterion, score):
    trained = context(model, initial=tensors(model, "w_init"))
    trained.module.load_state_dict(tensors(model, "w_final"), strict=False)
    assert_equal(compute(score, trained), tensors(model, criterion))


@pytest.mark.parametrize("model", MODELS)
def test_movement_equals_the_reference_which_has_the_learning_rate_in_it(model):
    net, (x, y) = network(model), data(model)
    weights = prunable_parameters(net)
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    accumulator = MovementAccumulator(weights)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        accumulator.update(net)
        optimizer.step()
    found = compute("movement", context(model, accumulated=accumulator.sums))
    scaled = {name: 0.1 * score for name, score in found.items()}
    assert_equal(scaled, tensors(model, "movement_first_order"), rtol=1e-9)


def keep(scores, masks, kept):
    """Masks of the `kept` best surviving weights."""
    in_order = [scores[name] for name in masks]
    gone = smallest(in_order, masks.kept - kept, list(masks.values()))
    return Masks({n: masks[n] & ~g for n, g in zip(masks, gone, strict=True)})


def as_masks(model, criterion):
    return Masks({n: mask.bool() for n, mask in tensors(model, criterion).items()})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("criterion", "score"),
    [
        ("snip_orig_mask_keep0.3", "snip"),
        ("grasp_orig_mask_0.7", "grasp"),
        ("synflow_mask_0.5_1it", OWN_BIASES),
        ("synflow_mask_0.1_1it", OWN_BIASES),
    ],
)
def test_masks_of_the_same_size_equal_the_reference(model, criterion, score):
    expected, scored = as_masks(model, criterion), context(model)
    assert keep(compute(score, scored), scored.masks, expected.kept) == expected


def iterated(scored, score, density, steps):
    """Masks after exponential steps, each scored anew on the surviving weights."""
    masks = scored.masks
    for step in range(1, steps + 1):
        masks.apply(scored.parameters)
        scores = compute(score, Context(scored.module, masks, example_input=scored.example_input))
        kept = masks.total - int((1 - density ** (step / steps)) * masks.total)
        masks = keep(scores, masks, kept)
    return masks


@pytest.mark.parametrize("model", MODELS)
def test_iterated_synflow_masks_equal_the_reference(model):
    expected = as_masks(model, "synflow_mask_0.1_100it")
    assert iterated(context(model), OWN_BIASES, 0.1, 100) == expected


def test_iterated_synflow_reaches_the_largest_possible_compression():
    scored = context("mlp")
    density = len(scored.masks) / scored.masks.total
    masks = iterated(scored, "synflow", density - 1e-9, 100)
    assert all(int(mask.sum()) == 1 for mask in masks.values())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_erdos_renyi_kernel_densities_equal_the_reference(model, sparsity):
    sizes = {n: p.numel() for n, p in prunable_parameters(network(model)).items()}
    shapes = {n: p.shape for n, p in prunable_parameters(network(model)).items()}
    # jaxpruner rounds the zeros of each layer down before it shares them out
    kept = sum(size - int(sparsity * size) for size in sizes.values())
    densities = erdos_renyi(shapes, kept / sum(sizes.values()))
    for name, value in tensors(model, f"erk_{sparsity}").items():
        assert 1 - densities[name] == pytest.approx(float(value), rel=1e-10, abs=1e-14)
    # the LAMP repository rounds the weights of each layer
    densities = erdos_renyi(shapes, 1 - sparsity)
    for name, value in tensors(model, f"erk_lamp_{sparsity}").items():
        assert abs(1 - densities[name] - float(value)) * sizes[name] <= 1
