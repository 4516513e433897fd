"""Formats: what a network can be exported to. Each file here is one.

A new format is one registered function in one file of this folder; each file here is imported. It is then a choice of
`lottery export --to` and of `export_as`, and its options are options of both:

    >>> sorted(available())
    ['onnx', 'program', 'safetensors', 'sparse', 'state_dict']
    >>> [option.name for option in find("sparse").options]
    ['values']
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lottery.deploy.export.format import Exportable, Format, Option, Written, available, find, register
from lottery.deploy.export.readback import apart, same

for _format in iter_modules(__path__):
    import_module(f"{__name__}.{_format.name}")

__all__ = ["Exportable", "Format", "Option", "Written", "apart", "available", "find", "register", "same"]
