"""A network as a plain state dict."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from lottery import storage
from lottery.deploy.export.format import Exportable, Written, register
from lottery.deploy.export.readback import same


@register("state_dict")
def write(network: Exportable, path: Path) -> Written:
    """torch.save of a plain state dict"""
    buffer = io.BytesIO()
    torch.save(network.module.state_dict(), buffer)
    buffer.seek(0)
    check = same(torch.load(buffer, weights_only=True), network.module)
    storage.write(path, buffer.getbuffer())
    load = into_module(network, f'torch.load("{path}", weights_only=True)')
    return Written(buffer.getbuffer().nbytes, check, load)


def into_module(network: Exportable, what: str, *names: str) -> list[str]:
    """Lines that load a state dict into a freshly built module.

    Args:
        network: what was written.
        what: an expression for the state dict.
        names: what it needs of lottery.deploy.
    """
    load = f"module.load_state_dict({what})"
    if network.before is not None:
        sizes = f", {network.sizes}" if network.sizes else ""
        names, load = (*names, "resize"), f"resize(module, {what}{sizes})"
    return [*([f"from lottery.deploy import {', '.join(names)}"] if names else []), load]
