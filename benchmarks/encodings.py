"""What masks take on disk in each encoding, and how long coding takes.

    python benchmarks/encodings.py [--tickets checkpoints/*.ticket] [--large 10_000_000]

Prints

- bytes over the bound (surviving values and the entropy of the mask, the least that a code can take which knows no
  pattern) for masks drawn at random at 50, 10, 3 and 1 % density, with float32, bfloat16 and int8 values;
- the same for real tickets, and the size of the whole file that `save_sparse` writes beside what torch.save takes;
- bytes for masks with a pattern, where the bound does not hold: channels, blocks, 2 of 4;
- the time to code and decode the mask of a large layer, over that of `np.packbits` for the same mask.

It takes half a minute of processor time. Sizes do not depend on the machine; of times believe the ratios.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lottery import Masks, Ticket
from lottery.deploy.sparse import encodings
from lottery.deploy.sparse import file as sparse_file
from lottery.deploy.sparse.encodings import ENCODINGS, decode, encode
from lottery.deploy.sparse.file import layer_sizes, totals

DENSITIES = (0.5, 0.1, 0.03, 0.01)
LENET = {"hidden.0.weight": (300, 784), "hidden.1.weight": (100, 300), "output.weight": (10, 100)}
VALUES = ("native", "bfloat16", "int8")
TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=Path, nargs="*", default=sorted(Path("checkpoints").glob("*.ticket")))
    parser.add_argument("--large", type=int, default=10_000_000, help="weights of the layer that is timed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print_random()
    for path in arguments.tickets:
        print_ticket(path)
    print_patterns()
    print_times(arguments.large)


def print_random() -> None:
    print("random masks of LeNet-300-100: bytes over surviving values + entropy")
    print("  " + "".join(f"{head:>9}" for head in ("density", "values", *ENCODINGS, "auto", "x dense")))
    for density in DENSITIES:
        masks = Masks({name: torch.rand(shape) < density for name, shape in LENET.items()})
        for values in VALUES:
            table = totals(layer_sizes(masks, values))
            over = [figure(table.loc[which, "x bound"]) for which in (*ENCODINGS, "auto")]
            cells = [f"{100 * density:g} %", values, *over, f"{table.loc['auto', 'x dense']:.4f}"]
            print("  " + "".join(f"{cell:>9}" for cell in cells))
    print("  asked: at most 1.1")


def print_ticket(path: Path) -> None:
    ticket = Ticket.load(path)
    state = dict(ticket.weights)
    for name, mask in ticket.masks.items() if state else ():
        state[name] = state[name].masked_fill(~mask, 0)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    beside = f"torch.save takes {buffer.tell():,} B" if state else "masks alone"
    print(f"\n{path.name}: density {100 * ticket.density:.2f} %, {beside}")
    heads = ("values", *ENCODINGS, "auto", "file B", "smaller")
    print("  " + "".join(f"{head:>9}" for head in heads))
    for values in VALUES:
        table = totals(layer_sizes(ticket.masks, values))
        cells = [values]
        cells += [figure(table.loc[which, "x bound"]) for which in (*ENCODINGS, "auto")]
        if state:
            written = len(sparse_file.encode(state, ticket.masks, values=values))
            cells += [f"{written:,}", f"{buffer.tell() / written:.1f} x"]
        print("  " + "".join(f"{cell:>9}" for cell in cells))
    chosen = layer_sizes(ticket.masks)["chosen"]
    print("  auto: " + ", ".join(f"{name} {which}" for name, which in chosen.items()))


def print_patterns() -> None:
    print("\nmasks with a pattern: bytes of the code, without values")
    heads = ("pattern", "kept", "entropy", *ENCODINGS, "auto took")
    print("  " + f"{heads[0]:<28}" + "".join(f"{head:>10}" for head in heads[1:]))
    for what, mask in patterns().items():
        found = encodings.sizes(mask)
        cells = [f"{int(mask.sum()):,}", f"{encodings.entropy(mask):,.0f}"]
        cells += ["-" if found[name] is None else f"{found[name]:,}" for name in ENCODINGS]
        cells.append(encode(mask).encoding)
        print("  " + f"{what:<28}" + "".join(f"{cell:>10}" for cell in cells))


def patterns() -> dict[str, Tensor]:
    rows, columns = torch.rand(256) < 0.3, torch.rand(128) < 0.3
    channels = (rows[:, None] & columns)[..., None, None].expand(256, 128, 3, 3)
    flattened = columns.repeat_interleave(49) & (torch.rand(120, 1) < 0.3)
    tiles = (torch.rand(128, 128) < 0.1).repeat_interleave(4, 0).repeat_interleave(4, 1)
    kernels = (torch.rand(256, 128, 1, 1) < 0.1).expand(256, 128, 3, 3)
    pairs = torch.combinations(torch.arange(4))[torch.randint(6, (65_536,))]
    two_of_four = torch.zeros(65_536, 4, dtype=torch.bool).scatter(1, pairs, True).reshape(512, 512)
    return {
        "channels, 256 x 128 x 3 x 3": channels,
        "channels into 120 x 6272": flattened,
        "4 x 4 blocks of 512 x 512": tiles,
        "kernels, 256 x 128 x 3 x 3": kernels,
        "2 of 4 of 512 x 512": two_of_four,
    }


def print_times(weights: int) -> None:
    print(f"\na layer of {weights:,} weights: time over that of np.packbits, to code and to decode")
    print("  " + "".join(f"{head:>14}" for head in ("density", "packbits ms", *ALWAYS, "auto")))
    for density in DENSITIES:
        mask = torch.rand(weights // 1000, 1000) < density
        packed = least(lambda mask=mask: np.packbits(mask.numpy()))
        cells = [f"{100 * density:g} %", f"{1e3 * packed:.1f}"]
        for encoding in (*ALWAYS, "auto"):
            coding = least(lambda mask=mask, encoding=encoding: encode(mask, encoding))
            coded = encode(mask, encoding)
            decoding = least(lambda coded=coded, mask=mask: decode(coded, mask.shape))
            cells.append(f"{coding / packed:.0f} / {decoding / packed:.0f}")
        print("  " + "".join(f"{cell:>14}" for cell in cells))


ALWAYS = ("bitmap", "delta", "lzma")


def least(call: Callable[[], object]) -> float:
    """The least CPU seconds of some calls."""
    spent = []
    for _ in range(TURNS):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return min(spent)


def figure(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.3f}"


if __name__ == "__main__":
    main()
