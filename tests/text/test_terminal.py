"""What stands on a terminal's screen after a fit, whatever progress bar was alive: read back by an emulator."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
import pytest

SCRIPT = """
import sys
import zoo
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from lottery import LotteryTicket
from lottery.training.progress import RunProgressBar

(kind,) = sys.argv[1:]
bars = {
    "the Trainer's own": [],
    "rich": [RichProgressBar(leave=True)],
    "tqdm": [TQDMProgressBar()],
    "of a run": [RunProgressBar()],
    "none": [],
}
ticket = LotteryTicket(rounds=2, monitor="val_acc", dirpath="run")
trainer = Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=kind != "none", callbacks=[ticket, *bars[kind]],
)
trainer.fit(zoo.Net(), zoo.ordered_loader(), zoo.validation_loader())
print("what the user prints next")
"""


def screen(columns: int, directory: Path, *command: str) -> list[str]:
    """The lines on a terminal, high enough that none leaves it, after a command."""
    here = Path(__file__).parents[1]
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 200, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "CI")}
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=directory,
        env={
            **kept,
            "TERM": "xterm-256color",
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
        },
    )
    os.close(slave)
    emulator = pyte.Screen(columns, 200)
    stream = pyte.ByteStream(emulator)
    with contextlib.suppress(OSError):  # how a terminal ends
        while data := os.read(master, 4096):
            stream.feed(data)
    os.close(master)
    lines = [line.rstrip() for line in emulator.display]
    assert process.wait() == 0, "\n".join(lines)
    return lines


def follows(lines: list[str], start: str, count: int) -> list[str]:
    """The line that starts so, and those after it, as many as are asked for; there is one."""
    (at,) = [index for index, line in enumerate(lines) if line.startswith(start)]
    return lines[at : at + count]


@pytest.mark.parametrize(
    ("bar", "columns"),
    [
        ("the Trainer's own", 80),
        ("tqdm", 60),
        *(
            pytest.param(*other, marks=pytest.mark.slow)  # the same law
            for other in (
                ("the Trainer's own", 60),
                ("rich", 120),
                ("tqdm", 80),
                ("of a run", 60),
                ("of a run", 80),
                ("none", 80),
            )
        ),
    ],
)
def test_what_a_run_says_stays_whole_above_any_progress_bar(bar: str, columns: int, tmp_path: Path) -> None:
    lines = screen(columns, tmp_path, sys.executable, "-c", SCRIPT, bar)
    text = "\n".join(lines)

    heading, blank, header = follows(lines, "Prunable parameters", 3)
    assert (heading, blank) == ("Prunable parameters", "")
    assert header.split()[:3] == ["parameter", "shape", "weights"]
    for round, density in enumerate(("100 %", "80 %", "64.2 %")):
        (line,) = follows(lines, f"round {round}/2  ", 1)
        assert f" {density}  val_acc 0." in line and line.endswith(" s")

    table = follows(lines, " round ", 5)
    assert table[0].split() == (["round", "density", "weights", "start", "best", "step", "last", "seconds"])
    assert [row.split()[0] for row in table[2:]] == ["0", "1", "2"]
    assert all(len(row.split()) == 9 for row in table[2:])
    legend = "start, best, last: val_acc before training, at its best step, at the end"
    assert legend in " ".join(text.split())
    assert "round: 0." not in text and "round=0." not in text
    assert "…" not in "\n".join(table)
    assert "what the user prints next" in lines

    # nothing torn: no bar is left between what is said
    said = [line for line in lines if line.startswith("round ")]
    assert len(said) == 3
