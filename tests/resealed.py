"""What a stranger can do to a file or directory: change it, and make every hash right again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lottery.storage.directory import MANIFEST


def reseal(path: Path, more: Mapping[str, bytes] | None = None) -> None:
    """Have the manifest of a directory say what its files hold now.

    Args:
        path: the directory.
        more: names that the manifest gets besides, with the contents that it says they have.
    """
    manifest = json.loads((path / MANIFEST).read_text())
    contents = {name: (path / name).read_bytes() for name in manifest["files"] if (path / name).exists()}
    manifest["files"] = {name: entry(data) for name, data in {**contents, **(more or {})}.items()}
    sealed = json.dumps(manifest["files"], sort_keys=True).encode()
    manifest["sha256"] = hashlib.sha256(sealed).hexdigest()
    (path / MANIFEST).write_text(json.dumps(manifest))


def entry(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
