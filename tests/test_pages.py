"""What CONTRIBUTING.md and docs/architecture.md say is so: their examples run, their tree and their names are the real
ones.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()

EXAMPLES = """
import sys
import zoo
from lottery import LotteryTicket, controls, scores, structures
from lottery.runs.pictures import gallery

known = {
    "A score": scores.available,
    "A structure": structures.available,
    "A control": controls.available,
    "A picture": lambda: gallery,
}
ticket = LotteryTicket(rounds=1, dirpath="checkpoints/digits")
zoo.fit(zoo.Net, ticket, max_epochs=1)
for section in open(sys.argv[1]).read().split("\\n### ")[1:]:
    title, _, text = section.partition("\\n")
    names = known.pop(title, list)
    before = set(names())
    for block in text.split("```python\\n")[1:]:
        exec(compile(block.partition("```")[0], title, "exec"), {"__name__": title})
    print(title, *set(names()) - before, sep=": ")
assert not known
"""


def test_each_example_adds_its_piece_and_uses_it(tmp_path: Path) -> None:
    page = str(ROOT / "docs/architecture.md")
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES, page],
        cwd=tmp_path,  # in a process of its own: what it registers ends with it
        env={**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    added = dict(re.findall(r"^(A \w+): (\S+)$", done.stdout, re.MULTILINE))
    assert added == {
        "A score": "relative-importance",
        "A structure": "input",
        "A control": "random-signs",
        "A picture": "seconds",
    }


def test_the_tree_is_that_of_the_package() -> None:
    tree = ARCHITECTURE.split("```")[1].strip("\n")
    folder = package = ROOT / "lottery"
    drawn: set[Path] = set()
    for line in tree.splitlines():
        names = re.split(r" {2,}", line.strip())[0].split(" ")
        if not line.startswith(" "):
            (folder,) = (package / name for name in names)
            drawn.add(folder)
            continue
        for name in names:
            found = set(folder.glob(name))
            assert found, f"{folder / name} is in the tree only"
            assert found.isdisjoint(drawn), f"{folder / name} is there twice"
            drawn |= found
    rooms = [path for path in package.iterdir() if path.is_dir()]
    there = {path for room in (package, *rooms) for path in room.iterdir()}
    hidden = {path for path in there if path.name.startswith("__")}
    assert drawn == (there - hidden) | {package / "__init__.py"}


def test_the_floors_are_those_that_are_checked() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("\nlayers = [")[2]
    layers = re.findall(r'^ +"(.+)",$', contract.partition("\n]")[0], re.MULTILINE)
    rows = re.findall(r"^\| \d+ \| (.+?) \|", ARCHITECTURE, re.MULTILINE)
    floors = [re.findall(r"`(\w+)`", row) for row in rows]
    assert floors == [layer.split(" | ") for layer in layers]


def test_the_files_that_contributors_are_sent_to_are_there() -> None:
    named = re.findall(r"`([\w.]+/[\w./]*)`", CONTRIBUTING)
    named += re.findall(r"\]\(([\w./]+)", CONTRIBUTING)
    named += re.findall(r"\w+/[\w/]+\.py", CONTRIBUTING)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_first_screen_shows_how_to_contribute() -> None:
    assert len(CONTRIBUTING.splitlines()) <= 45
