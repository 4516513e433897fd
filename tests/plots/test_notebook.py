"""Pictures in a notebook that really runs: each is shown once, however it is asked for."""

from __future__ import annotations

import base64

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.notebooknode import NotebookNode

SETUP = """
%matplotlib inline
import matplotlib.pyplot as plt, torch
from lottery import Masks, plots
masks = Masks({"hidden.weight": torch.rand(30, 64) < 0.3, "output.weight": torch.rand(10, 30) < 0.3})
"""
DRAW = {
    "one panel": "plots.layer_bars(masks.densities(), masks.density)",
    "several": "plots.mask_images(masks)",
}
WAYS = {
    "last expression": ("{draw}", 1),
    "semicolon": ("{draw};", 1),
    "a name": ("picture = {draw}", 1),
    "a name, asked for": ("picture = {draw}\npicture", 1),
    "asked for in a later cell": ("picture", 1),
    "a loop": ("for _ in range(2):\n    {draw}", 2),
    "the first of two": ("{draw}\nplots.fans(masks)", 2),
    "plt.show": ("{draw}\nplt.show()", 1),
    "display": ("display({draw})", 1),
    "interactive": (
        "import ipywidgets\nipywidgets.interact(lambda n: {draw}, n=ipywidgets.IntSlider(1), manual=False);",
        1,
    ),
    "on axes": ("figure, axes = plt.subplots(1, 2)\nplots.fans(masks, ax=axes[0]); plots.fans(masks, ax=axes[1])", 1),
    "saved": ("{draw}\nplt.savefig('saved.png')", 1),
}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    cells = [nbformat.v4.new_code_cell(SETUP)]
    for draw in DRAW.values():
        cells += [nbformat.v4.new_code_cell(way.format(draw=draw)) for way, _ in WAYS.values()]
    cells.append(
        nbformat.v4.new_code_cell("print(len(plt.get_fignums()), (plt.imread('saved.png') < 1).mean() > 0.01)")
    )
    made = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    NotebookClient(made, timeout=120, kernel_name="python3", resources=where).execute()
    return made


def shown(cell: NotebookNode) -> list[dict]:
    """The pictures that a cell shows, those of widgets too."""
    outputs = [output.get("data", {}) for output in cell["outputs"]]
    return [data for data in outputs if "image/png" in data]


@pytest.mark.parametrize("draw", list(DRAW))
@pytest.mark.parametrize("way", list(WAYS))
def test_a_picture_is_shown_once_in_whichever_way(notebook: NotebookNode, draw: str, way: str) -> None:
    number = 1 + list(DRAW).index(draw) * len(WAYS) + list(WAYS).index(way)
    cell = notebook["cells"][number]
    found = shown(cell)
    if way == "interactive":
        widgets = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
        states = [w["state"]["outputs"] for w in widgets if w["model_name"] == "OutputModel"]
        found = shown({"outputs": states[list(DRAW).index(draw)]})
    assert len(found) == WAYS[way][1]
    assert all(len(base64.b64decode(data["image/png"])) > 2_000 for data in found)


def test_no_figure_is_left_open_and_a_saved_one_is_not_blank(notebook: NotebookNode) -> None:
    assert notebook["cells"][-1]["outputs"][0]["text"] == "0 True\n"
