"""A network as Hugging Face stores them."""

from __future__ import annotations

import copy
from pathlib import Path

from lottery.deploy.export.format import Exportable, Written, register
from lottery.deploy.export.hugging_face import CONFIG, load_safetensors, save_safetensors, weights_file
from lottery.deploy.export.readback import same
from lottery.foundations.environment import versions


def _files(path: Path) -> list[Path]:
    return [weights_file(path), weights_file(path).with_name(CONFIG)]


@register("safetensors", files=_files)
def write(network: Exportable, path: Path) -> Written:
    """model.safetensors and config.json in a directory, as at Hugging Face"""
    file = save_safetensors(network.module, path, _described(network), network.sizes)
    loaded = load_safetensors(copy.deepcopy(network.built), path)
    load = ["# compacted: from_pretrained cannot load these shapes"] if network.before is not None else []
    load += ["from lottery.deploy import load_safetensors", f'load_safetensors(module, "{path}")']
    return Written(file.stat().st_size, same(loaded.state_dict(), network.module), load)


def _described(network: Exportable) -> dict[str, object]:
    """What the configuration says of where the network comes from, and of the shapes that compaction changed."""
    notes: dict[str, object] = {**network.notes, "versions": versions()}
    if network.before is not None:
        dense = network.before.state_dict()
        notes["compacted"] = {
            n: {"before": list(dense[n].shape), "after": list(t.shape)}
            for n, t in network.module.state_dict().items()
            if t.shape != dense[n].shape
        }
    return notes
