"""A network as a torch.export program."""

from __future__ import annotations

from pathlib import Path

from lottery.deploy.export.format import Exportable, Written, register
from lottery.deploy.export.program import export_program


@register("program")
def write(network: Exportable, path: Path) -> Written:
    """a torch.export program, which runs without the module's code"""
    found = export_program(network.module, network.example, path)
    load = [f'program = torch.export.load("{path}").module()', f"outputs = program({', '.join(network.given)})"]
    return Written(found.size, found.words(), load)
