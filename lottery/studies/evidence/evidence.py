"""Whether a study shows a winning ticket: its claims, as tables and in words."""

from __future__ import annotations

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
    - *below*, if it is shown to be more than `margin` worse;
    - *winning*, if it is matching and shown to be better than each control that must be beaten;
    - open, if the seeds do not tell.

    "Shown" is a one-sided paired t test whose p value, corrected by Holm, is at most `level`. So the chance of one or
    more false claims is at most `level` in each of these families: matching, over rounds; below, over rounds; wins over
    the controls that must be beaten, over rounds and these controls together; wins over the other controls likewise;
    closeness of controls to the ticket, over rounds and all controls. That holds for a study that is read when it is
    complete: stopping as soon as a claim appears makes false ones likelier.

    Args:
        points: one row per finished training: columns arm, seed, round, density, value, step, reached, steps and
            perhaps budget; `Study.points()` makes them. `value` is measured on test data, at the step of best
            validation. Seeds missing in one arm are left out where they are missing; see `missing`.
        margin: how much worse than dense is still as good, in units of the metric. Default for accuracies between 0
            and 1: 0.01, one percentage point. Papers say "commensurate" or "matching" without one, yet no number of
            seeds shows a difference to be nothing; a point is about two standard deviations between seeds on small
            tasks.
        level: chance of a false claim in each family.
        lower_is_better: whether a smaller value is the better one.
        metric: what `value` is.
        must_beat: glob pattern or patterns of the controls that a winning ticket beats: those of fresh weights or
            random masks. The others inform.
        planned: the controls that were to be trained. One that must be beaten and was not trained is not beaten.

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
            Index round; density; seeds (pairs with dense); dense and ticket, means over these pairs; gain, low, high,
            p, p_holm and matching, against dense; label; and for each control, with its name and a blank before: gain,
            low, high, p, p_holm and wins. Intervals are 1 - level, two-sided, each for itself.
        """
        return overview(self)

    def comparison(self, control: str) -> pandas.DataFrame:
        """The ticket against one control, in the rounds in which it was trained.

        Returns:
            Index round; density; seeds (pairs); control and ticket, means over these pairs; gain, low, high, p, p_holm
            and wins; close, whether the control is shown to be less than the margin worse, and its p_close_holm.

        Raises:
            ValueError: there is no such control.
        """
        if control not in self.controls:
            raise ValueError(f"no control {control!r} in this study; it has {', '.join(self.controls) or 'none'}")
        return against(self, control)

    def verdict(self) -> Verdict:
        """All of it in words."""
        return verdict_on(self)

    def __repr__(self) -> str:
        return f"Evidence({self.metric}, margin={self.margin:g}): {self.verdict().headline}"

    def _repr_html_(self) -> str:
        from html import escape

        said = "".join(f"<p>{escape(text)}</p>" for text in self.verdict().sentences)
        table = self.table()._repr_html_()  # type: ignore[operator]
        return f"<p><b>{escape(self.verdict().headline)}</b></p>{said}{table}"
