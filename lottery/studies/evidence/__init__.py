"""Is it a winning ticket? The statistics of a study, and the verdict in words."""

from lottery.studies.evidence.evidence import Evidence
from lottery.studies.evidence.verdict import Verdict

__all__ = ["Evidence", "Verdict"]
