"""Studies whose truth is known: made up, not trained."""

import numpy as np
import pandas as pd

NOISE = 0.001


def points(gains, controls=None, seeds=5, noise=NOISE, base=0.9, sign=1, reached=lambda arm, seed, round: 100.0, rng=0):
    """The points of a study with true gains over dense, and of the ticket over controls.

    Args:
        gains: by round, of the ticket over dense.
        controls: name to the ticket's gain over it by round, None where it was not trained.
        sign: -1 where less is better.
    """
    generator = np.random.default_rng(rng)
    rows = []

    def add(arm, seed, round, value):
        steps = {"step": 200.0, "progress": ((reached(arm, seed, round), 0.9),), "steps": 340}
        rows.append(
            {"arm": arm, "seed": seed, "round": round, "density": 0.8**round} | {"value": sign * value, **steps}
        )

    for seed in range(seeds):
        dense = base + generator.normal(0, noise)
        add("dense", seed, 0, dense)
        for number, gain in enumerate(gains, start=1):
            ticket = dense + gain + generator.normal(0, noise)
            add("ticket", seed, number, ticket)
            for name, over in (controls or {}).items():
                if over[number - 1] is not None:
                    value = ticket - over[number - 1] + generator.normal(0, noise)
                    add(name, seed, number, value)
    return pd.DataFrame(rows)
