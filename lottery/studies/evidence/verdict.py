"""The answer to: is it a winning ticket?"""

from __future__ import annotations

from dataclasses import dataclass

from lottery.studies.evidence.claims import Claims
from lottery.studies.evidence.headline import headline
from lottery.studies.evidence.outcome import Outcome, outcome_of
from lottery.studies.evidence.sentences import body


@dataclass(frozen=True)
class Verdict(Outcome):
    """What a study shows, and the words for it; `str` gives them.

    Args:
        headline: one line.
        sentences: the rest, with its numbers.
    """

    headline: str
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((self.headline, *self.sentences))


def verdict_on(claims: Claims) -> Verdict:
    """The verdict on the trainings of a study."""
    outcome = outcome_of(claims)
    return Verdict(**vars(outcome), headline=headline(claims, outcome), sentences=tuple(body(claims, outcome)))
