"""Half of the units of many networks pruned, beside Torch-Pruning; `python -m benchmarks.networks --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))  # where `architectures` are
