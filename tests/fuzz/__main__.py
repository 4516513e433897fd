"""`python -m tests.fuzz READER --minutes 30`: fuzz one reader, or all in turns; what fails is kept in the corpus."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import logging
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypothesis import HealthCheck, Phase, given, settings

from fuzz.readers import READERS, packed, read_all

CORPUS = Path(__file__).parent / "corpus"


def fuzz(name: str, minutes: float, folder: Path) -> tuple[int, dict[str, str], float, float]:
    """Examples, raw errors (one of each kind), the largest growth of memory and the longest time of one."""
    reader, until = READERS[name], time.process_time() + 60 * minutes
    count, errors, growth, longest = 0, {}, 0.0, 0.0

    @settings(
        max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    @given(reader.files)
    def batch(files: dict[str, bytes]) -> None:
        nonlocal count, growth, longest
        if time.process_time() > until:
            return
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                read_all(reader, files, folder)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (what is looked for)
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {str(error)[:90]!r}"
            if f"{type(error).__name__} in {place.filename}:{place.lineno}" not in seen:
                seen.add(f"{type(error).__name__} in {place.filename}:{place.lineno}")
                data = packed(files)
                kept = folder.parent / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.zip"
                kept.write_bytes(data)
                errors[kind] = str(kept)
        count += 1
        longest = max(longest, time.monotonic() - began)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if count > 200:  # imports and caches are there
            growth = max(growth, grown / 1024 - 3 * sum(map(len, files.values())) / 2**20)

    seen: set[str] = set()
    while time.process_time() < until:
        batch()
    return count, errors, growth, longest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("reader", choices=[*READERS, "all"])
    parser.add_argument("--minutes", type=float, default=30, help="CPU minutes for each reader (default: 30)")
    known = parser.parse_args()
    logging.disable(logging.CRITICAL)
    folder, failed = Path(tempfile.mkdtemp(prefix="fuzz-")) / "x", False
    print("| reader | examples | raw errors | memory beyond 3 x the file [MB] | longest [s] |\n|---|--:|--:|--:|--:|")
    for name in READERS if known.reader == "all" else [known.reader]:
        count, errors, growth, longest = fuzz(name, known.minutes, folder)
        print(f"| {name} | {count:,} | {len(errors)} | {max(0.0, growth):.1f} | {longest:.2f} |", flush=True)
        for kind, kept in errors.items():
            failed = True
            print(f"  {kind}\n    kept in {kept}: add it to {CORPUS}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
