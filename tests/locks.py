"""A lock that another process holds."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOLD = """
import os, sys
from lottery.storage import Directory
with Directory(sys.argv[1]).locked():
    if sys.argv[2] == "alone" or os.fork() == 0:
        print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process_holding(path: Path, company: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock; killed at the end. With "child", its fork lives on until then."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), company], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
