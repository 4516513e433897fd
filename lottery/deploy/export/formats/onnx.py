"""A network as one ONNX file, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

from lottery.deploy.export.format import Exportable, Option, Written, register
from lottery.deploy.export.program import check_opset, check_packages, export_onnx


def _check(opset: int | None = None) -> None:
    check_packages()
    check_opset(opset)


@register("onnx", Option("opset", "of onnx (default: what torch recommends)", type=int, metavar="N"), check=_check)
def write(network: Exportable, path: Path, opset: int | None = None) -> Written:
    """ONNX, run by onnxruntime and compared with the module."""
    found = export_onnx(network.module, network.example, path, opset=opset)
    feed = ", ".join(f'"{name}": {batch}.numpy()' for name, batch in zip(found.inputs, network.given, strict=True))
    load = [f'session = onnxruntime.InferenceSession("{path}")', f"outputs = session.run(None, {{{feed}}})"]
    return Written(found.size, f"Opset {found.opset}. {found.words()}", load)
