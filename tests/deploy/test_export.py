"""Exported files compute what the module does; what cannot be exported is refused, and nothing is written."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, load_model, save_file
from torch import Tensor, nn

from lottery import Ticket
from lottery.deploy.compaction.compaction import compact
from lottery.deploy.export.hugging_face import load_safetensors, save_safetensors
from lottery.deploy.export.program import export_onnx, export_program
from lottery.storage.directory import StorageError
from lottery.tasks.models import MLP, ResNet
from lottery.tickets.baking import bake

X = zoo.data(5)[0]
BOTH = pytest.mark.parametrize(
    "export", [export_program, pytest.param(export_onnx, marks=[pytest.mark.slow, zoo.needs_onnx])]
)


def made(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return kind()


class Branch(zoo.Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum() > 0 else x


class Random(zoo.Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + torch.rand(())


class Fixed(zoo.Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.view(5, -1))


class Several(nn.Module):
    """Two inputs, one of which only one output needs; outputs of two types in a mapping."""

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {"most": a.argmax(1), "sum": a + 2 * b}


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.net = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.view(len(x), -1, 4).repeat(1, 1, 2))


def run_onnx(path: Path, *batch: Tensor) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, {n: x.numpy() for n, x in zip(names, batch, strict=True)})


# Programs


@settings(max_examples=4)
@given(kind=st.sampled_from([zoo.Net, zoo.Tied, zoo.WeightNorm]), made_at=st.integers(1, 4), run_at=st.integers(1, 7))
def test_a_program_equals_the_module_at_any_batch_size(
    kind: Callable[[], nn.Module], made_at: int, run_at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    module, path = made(kind), tmp_path_factory.mktemp("program") / "net.pt2"
    found = export_program(module, X[:made_at], path)
    assert found.difference == 0 and found.batch is None
    assert found.size == path.stat().st_size
    x = zoo.data(run_at, seed=1)[0]
    assert torch.equal(torch.export.load(path).module()(x), module.eval()(x))


def test_exporting_leaves_a_module_as_it_was(tmp_path: Path) -> None:
    module = made(zoo.Net).train()
    module.net[2].eval()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    modes, state = [m.training for m in module.modules()], torch.get_rng_state()
    export_program(module, X, tmp_path / "net.pt2")
    zoo.assert_equal(dict(module.state_dict()), before)
    assert [m.training for m in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


@pytest.mark.slow
def test_a_batch_size_that_forward_counts_is_free_where_torch_can_see_it(tmp_path: Path) -> None:
    found = export_program(made(zoo.Recurrent), X, tmp_path / "net.pt2")  # view(len(x), 4, 3)
    assert found.batch is None and found.difference == 0


@BOTH
def test_a_batch_size_that_forward_fixes_is_said(export: Any, tmp_path: Path) -> None:
    found = export(made(Fixed), X, tmp_path / "net")
    assert (found.batch, found.tried) == (5, (5,))
    assert "takes batches of 5 only" in found.words()


@BOTH
def test_several_inputs_and_outputs_keep_their_places(export: Any, tmp_path: Path) -> None:
    found = export(Several(), (X, X.flip(0)), tmp_path / "net")
    assert found.tried == (5, 6, 1) and found.difference <= 1e-6


# ONNX


@zoo.needs_onnx
def test_an_onnx_file_is_one_checked_file_of_the_opset_that_was_asked_for(tmp_path: Path) -> None:
    import onnx

    module, path = made(zoo.Net), tmp_path / "net.onnx"
    bake(module, {"net.0.weight": torch.rand(16, 12) < 0.3})
    found = export_onnx(module, X[:1], path, opset=19)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == found.opset == 19
    assert found.inputs == ("x",) and found.batch is None
    x = zoo.data(9, seed=1)[0]
    assert np.allclose(run_onnx(path, x)[0], module.eval()(x).detach(), atol=1e-6)


@zoo.needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("opset", [None, 18, 21, 24])
@pytest.mark.parametrize("kind", [zoo.Net, zoo.Recurrent, zoo.Tied, zoo.WeightNorm, Transformer])
def test_onnxruntime_computes_what_the_module_does(
    kind: Callable[[], nn.Module], opset: int | None, tmp_path: Path
) -> None:
    module, path = made(kind), tmp_path / "net.onnx"
    found = export_onnx(module, X, path, opset=opset)
    assert found.opset == opset or opset is None
    x = zoo.data(7, seed=1)[0]
    assert np.allclose(run_onnx(path, x)[0], module.eval()(x).detach(), atol=1e-5)


@zoo.needs_onnx
@pytest.mark.slow
def test_a_compacted_resnet_is_exported_at_its_smaller_size(tmp_path: Path) -> None:
    module = made(ResNet).eval()
    masks = {}
    for name, p in module.named_parameters():
        if p.ndim == 4 and "conv1" in name:
            masks[name] = torch.ones_like(p, dtype=torch.bool)
            masks[name][: len(p) // 2] = False
    assert masks
    small = compact(bake(module, masks), torch.randn(2, 1, 28, 28)).module
    x = torch.randn(3, 1, 28, 28)
    whole = export_onnx(module, x, tmp_path / "whole.onnx")
    found = export_onnx(small, x, tmp_path / "small.onnx")
    assert found.size < whole.size and found.batch is None
    assert np.allclose(run_onnx(found.path, x)[0], run_onnx(whole.path, x)[0], atol=1e-3)


@zoo.needs_onnx
@pytest.mark.slow
def test_double_precision_is_kept_without_a_fixed_batch(tmp_path: Path) -> None:
    found = export_onnx(made(zoo.Net).double(), X.double(), tmp_path / "net.onnx", dynamic_batch=False)
    assert found.difference < 1e-14 and found.batch == 5
    assert run_onnx(found.path, X.double())[0].dtype == np.float64


# What cannot be exported


@BOTH
@pytest.mark.parametrize(
    ("module", "x", "message"),
    [
        (Branch, X, r"Branch cannot be traced .*if x\.sum\(\) > 0"),
        (Random, X, "Random gives other outputs each time"),
        (zoo.Net, X[:, :3], "Net cannot be traced"),
        (zoo.Net, torch.tensor(3.0), "no tensor with samples"),
        (zoo.Net, X[:0], "no tensor with samples"),
        (zoo.Net, (), "no tensor with samples"),
    ],
)
def test_what_cannot_be_exported_is_named_in_one_line_and_nothing_is_written(
    export: Any, module: Callable[[], nn.Module], x: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "net"
    path.write_text("what was there before")
    with pytest.raises(ValueError, match=message) as error:
        export(made(module), x, path)
    assert "\n" not in str(error.value)
    assert path.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [path]


@zoo.needs_onnx
@pytest.mark.parametrize("opset", [-1, 17, 999])
def test_an_opset_out_of_range_is_refused_with_the_range(opset: int, tmp_path: Path) -> None:
    import onnx

    highest = onnx.defs.onnx_opset_version()
    with pytest.raises(ValueError, match=f"opset={opset} .* begins at 18, .* up to {highest}"):
        export_onnx(made(zoo.Net), X, tmp_path / "net.onnx", opset=opset)


def test_missing_packages_are_named_with_the_way_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name))
    with pytest.raises(ValueError, match=r"onnx and onnxruntime and onnxscript.*lottery-tickets\[onnx\]"):
        export_onnx(made(zoo.Net), X, tmp_path / "net.onnx")


@zoo.needs_onnx
@pytest.mark.slow
def test_an_operator_that_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    class Singular(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.svdvals(x)

    with pytest.raises(ValueError, match="Singular cannot be written as ONNX: No ONNX function found for .*svd"):
        export_onnx(Singular(), X, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


# safetensors


@settings(max_examples=8)
@given(kind=st.sampled_from([zoo.Net, zoo.Tied, zoo.WeightNorm, zoo.Recurrent]), as_file=st.booleans())
def test_safetensors_load_into_a_fresh_module(
    kind: Callable[[], nn.Module], as_file: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    module, path = made(kind), folder / "net.safetensors" if as_file else folder
    file = save_safetensors(module, path)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", file.name]
    fresh = made(kind, seed=1)
    assert load_safetensors(fresh, path) is fresh
    zoo.assert_equal(dict(fresh.state_dict()), dict(module.state_dict()))
    theirs = made(kind, seed=2)  # the library that defines the format agrees
    load_model(theirs, str(file))
    zoo.assert_equal(dict(theirs.state_dict()), dict(module.state_dict()))


def test_shared_tensors_are_stored_once(tmp_path: Path) -> None:
    file = save_safetensors(made(zoo.Tied), tmp_path)
    stored = set(load_file(file))
    assert len(stored & {"encoder.weight", "decoder.weight"}) == 1


def test_the_configuration_builds_the_class_again(tmp_path: Path) -> None:
    module = MLP(12, hidden=(7, 5), classes=3)
    mask = torch.rand(7, 12) < 0.5
    mask[0, 0] = True
    save_safetensors(bake(module, {"hidden.0.weight": mask}), tmp_path, {"origin": "round 7"})
    config = json.loads((tmp_path / "config.json").read_text())
    described = config.pop("lottery")
    assert config.pop("architectures") == ["MLP"]
    again = load_safetensors(MLP(**config), tmp_path)
    assert torch.equal(again(X), module(X))
    assert described["class"] == "lottery.tasks.models.mlp.MLP" and described["origin"] == "round 7"
    assert described["parameters"] == sum(p.numel() for p in module.parameters())
    assert described["density"] == Ticket.of(module).density
    assert described["densities"]["hidden.0.weight"] == int(mask.sum()) / 84


def test_a_compacted_module_loads_into_one_of_the_dense_shapes(tmp_path: Path) -> None:
    module = MLP(12, hidden=(7, 5), classes=3)
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in module.named_parameters()}
    masks["hidden.0.weight"][2:4] = False
    masks["hidden.0.bias"][2:4] = False
    small = compact(bake(module, masks), X).module
    assert small.hidden[0].weight.shape == (5, 12)
    save_safetensors(small, tmp_path)
    found = load_safetensors(MLP(12, hidden=(7, 5), classes=3), tmp_path)
    assert found.hidden[0].weight.shape == (5, 12)
    assert torch.equal(found(X), small(X))


def test_weights_of_another_architecture_are_named_and_change_nothing(tmp_path: Path) -> None:
    save_safetensors(made(zoo.Net), tmp_path)
    other = made(zoo.Recurrent)
    before = {name: t.clone() for name, t in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"net.0.weight: only in the file[\s\S]*gru\S* only in the module"):
        load_safetensors(other, tmp_path)
    zoo.assert_equal(dict(other.state_dict()), before)


def test_a_missing_or_damaged_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        load_safetensors(made(zoo.Net), tmp_path)
    file = save_safetensors(made(zoo.Net), tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StorageError, match="damaged"):
        load_safetensors(made(zoo.Net), tmp_path)


def test_what_is_no_tensor_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class WithState(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"seen": 3}

    with pytest.raises(ValueError, match="_extra_state"):
        save_safetensors(WithState(2, 2), tmp_path / "saved")
    with pytest.raises(TypeError):
        save_safetensors(nn.Linear(2, 2), tmp_path / "saved", {"origin": object()})
    assert not (tmp_path / "saved").exists()


def test_one_other_bit_in_a_safetensors_file_is_found(tmp_path):
    file = save_safetensors(made(zoo.Net), tmp_path)
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(StorageError, match="not those that were written"):
        load_safetensors(made(zoo.Net), tmp_path)
    plain = made(zoo.Net, seed=1).eval()
    save_file({n: t.contiguous() for n, t in plain.state_dict().items()}, file)  # from elsewhere, without a hash
    assert torch.equal(load_safetensors(made(zoo.Net).eval(), tmp_path)(X), plain(X))
