"""Is it a winning ticket? The statistics of a study, and the verdict in words."""

from lottery.evidence.evidence import Evidence
from lottery.evidence.verdict import Verdict

__all__ = ["Evidence", "Verdict"]
