"""Export formats by name: one function adds one, for Python and for the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from torch import nn

from lottery.deploy import compact, export_as, load_safetensors, load_sparse, resize
from lottery.deploy.export.formats import Option, available, find, register
from lottery.masks.masks import Masks
from lottery.tickets.baking import bake

EXAMPLE = Path(__file__).parents[2] / "docs" / "architecture.md"
X = zoo.data(5)[0]
EXACT = "Read back, every tensor is the same, bit for bit."


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return zoo.Net()


def test_the_example_of_the_docs_adds_a_format_to_python_and_to_the_command(tmp_path: Path) -> None:
    section = EXAMPLE.read_text().partition("### An export format")[2]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    more = (
        "from lottery.cli.export import options_parser\n"
        "print(options_parser().parse_args(['--to', 'npz', '-o', 'x']).to)\n"
        "print(options_parser().format_help())"
    )
    done = subprocess.run(
        [sys.executable, "-c", example[1] + more], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    check, to, *help = done.stdout.splitlines()
    assert (check, to) == (EXACT, "npz") and (tmp_path / "net.npz").exists()
    assert "  npz          NumPy arrays, one for each tensor" in help


@pytest.mark.parametrize("to", ["safetensors", "sparse", "state_dict"])
def test_a_compacted_network_comes_back_from_each_format_that_is_loaded(to: str, tmp_path: Path) -> None:
    dense = net().eval()
    with torch.no_grad():
        dense.net[0].weight[:4], dense.net[0].bias[:4] = 0, 0  # type: ignore[index]
    small = compact(dense, X).module
    path = tmp_path / "out"
    written = export_as(to, small, X, path, before=dense)
    assert written.check == EXACT
    assert ("resize" in written.load[-1]) == (to != "safetensors")
    if to == "safetensors":
        found = load_safetensors(net(1), path)
    else:
        state: Any = load_sparse(path) if to == "sparse" else torch.load(path)
        found = resize(net(1), state)
    zoo.assert_equal(dict(found.state_dict()), dict(small.state_dict()))


def test_masks_keep_a_weight_that_is_zero_by_chance(tmp_path: Path) -> None:
    module, name = net(), "net.0.weight"
    masks = Masks({name: torch.rand(dict(module.named_parameters())[name].shape) < 0.5})
    bake(module, masks)
    sizes = [
        export_as("sparse", module, X, tmp_path / str(i), masks=each).size
        for i, each in enumerate([Masks({name: torch.ones_like(masks[name])}), masks])
    ]
    assert sizes[1] < sizes[0]


def test_the_outputs_of_a_rounded_file_are_compared_in_eval_mode(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(12, 8), nn.Dropout(0.9)).train()
    written = export_as("sparse", module, X, tmp_path / "a", values="float32")
    assert "differ by at most 0;" in written.check and module.training


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("spars", {}, "no format 'spars'. Did you mean sparse"),
        ("program", {"opset": 18}, "'program' has no option opset; it has none"),
        ("sparse", {"value": "int8"}, "no option value; it has values"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    to: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_as(to, net(), X, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_name_or_an_option_of_another_format_is_refused() -> None:
    def write(*_: Any, **__: Any) -> Any: ...

    before = available()
    with pytest.raises(ValueError, match="there is a format 'onnx' already"):
        register("onnx")(write)
    with pytest.raises(ValueError, match="'values' is of the format 'sparse' already"):
        register("mine", Option("values", "of mine"))
    assert available() == before and find("onnx").write is not write
