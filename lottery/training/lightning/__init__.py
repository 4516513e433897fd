"""The one place that knows Lightning's internals: many rounds inside one `Trainer.fit`.

A `Fit` extends the loops of one Trainer, for the time of one `fit`, by a few methods. They call the round driver in
place of the single training, note from which random streams each data iterator was made, and report every boundary at
which nothing is half done: after an epoch, and between two batches of an epoch. A state captured at such a boundary can
be entered again, in this process or another, and goes on bit for bit.
"""

from lottery.training.lightning.aside import scalars
from lottery.training.lightning.driver import Driver, Position
from lottery.training.lightning.fit import Fit

__all__ = ["Driver", "Fit", "Position", "scalars"]
