"""Whether a study shows a winning ticket: its claims, as tables and in words."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from lottery.studies.evidence.claims import Claims
from lottery.studies.evidence.tables import against, overview
from lottery.studies.evidence.verdict import Verdict, verdict_on

if TYPE_CHECKING:
    import pandas


class Evidence(Claims):
    """What the trainings of a study say of its tickets, paired over seeds.

    A *gain* is a difference that is positive where the ticket is better: ticket - other, or other - ticket of a metric
    of which less is better. In each round the ticket is

    - *matching*, if it is shown to be no more than `margin` worse than dense (non-inferior);
    - *winning*, if it is matching and shown to be better than every control that must be beaten;
    - *below*, if it is shown to be more than `margin` worse than dense;
    - open, if the seeds do not tell.

    Winning is one claim, which is false with a chance of at most `level`, over all rounds, controls and looks; matching
    is another, at the same level. Other claims are families of their own, each tested at half of `level`: below; worse
    than dense; better than each control; each control as good as the ticket. A training that failed counts as worse
    than any other. The tests, what they assume, and how often they err in simulations: `docs/statistics.md`.

    Args:
        points: one row per finished training: columns arm, seed, round, density and value, and where they are known
            progress and budget; `Study.points()` makes them. `value` is measured on test data, at the step of best
            validation, and not finite where the training failed. Trainings that are absent are named in `missing`.
        margin: how much worse than dense is still as good: in units of the metric, or a share of dense's error such as
            "10%". Default for accuracies between 0 and 1: 0.01, one percentage point. Papers say "commensurate" or
            "matching" without one, yet no number of seeds shows a difference to be nothing; a point is about two
            standard deviations between seeds on small tasks.
        level: chance of a false claim.
        lower_is_better: whether a smaller value is the better one.
        metric: what `value` is.
        required: the controls that a winning ticket beats, and what each rules out: other "weights" or other "masks".
            Default: what the controls were registered with. A ticket is called winning only where both are ruled out.
        planned: the controls that were to be trained. One that must be beaten and was not trained is not beaten.
        looks: the seeds that each look at the study added, this one last; default: all seeds, in a first look.
        tested: whether `value` is of data that chose nothing.
        waiting: why nothing is to be claimed yet, where the study is not complete.
        notes: sentences that the verdict ends with.

    Raises:
        ValueError: points that cannot be compared (see `Grid`), no margin for a metric that is no accuracy, or a
            margin or level out of range.

    Example::

        evidence = study.evidence()
        print(evidence.verdict())        # in words, with numbers
        evidence.table()                 # per round: to dense and to each control
        evidence.comparison("reinit")
        evidence.speed()

    Source: winning tickets and their controls, Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, section 2;
    matching, Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020, section 3.
    """

    def table(self) -> pandas.DataFrame:
        """One row per round.

        Returns:
            Index round; density; seeds (pairs with dense); dense and ticket, means over these pairs without failed
            trainings; gain, low, high, p, p_adjusted and matching, against dense; better, than all controls that must
            be beaten; p_wins, of being winning; label; and for each control, with its name and a blank before: gain,
            low, high, p, p_adjusted and wins. Intervals are 1 - level, two-sided, each for itself.
        """
        return overview(self)

    def comparison(self, control: str) -> pandas.DataFrame:
        """The ticket against one control, in the rounds in which it was trained.

        Returns:
            Index round; density; seeds (pairs); control and ticket, means over these pairs; gain, low, high, p,
            p_adjusted and wins; close, whether the control is shown to be less than the margin worse, and its p_close.

        Raises:
            ValueError: there is no such control.
        """
        if control not in self.controls:
            raise ValueError(f"no control {control!r} in this study; it has {', '.join(self.controls) or 'none'}")
        return against(self, control)

    def verdict(self) -> Verdict:
        """All of it in words."""
        return self._verdict

    @cached_property
    def _verdict(self) -> Verdict:
        return verdict_on(self)

    def __repr__(self) -> str:
        return f"Evidence({self.metric}, margin={self.margin.text(self.text)}): {self.verdict().headline}"

    def _repr_html_(self) -> str:
        from html import escape

        said = "".join(f"<p>{escape(text)}</p>" for text in self.verdict().sentences)
        table = self.table()._repr_html_()  # type: ignore[operator]
        return f"<p><b>{escape(self.verdict().headline)}</b></p>{said}{table}"
