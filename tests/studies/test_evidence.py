"""Evidence of a study: from its points to claims and words, on studies whose truth is known."""

import math
import re

import numpy as np
import pandas as pd
import pytest
import ten_truths
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import points
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lottery.studies.evidence import Evidence

ROUNDS = 8


GAINS = [0.0, 0.005, 0.01, 0.01, 0.005, 0.0, -0.03, -0.05]
CONTROLS = {
    "reinit": [0.0, 0.02, 0.03, 0.04, 0.05, 0.05, 0.05, 0.05],
    "random": [0.02] * ROUNDS,
    "signs": [0.0] * ROUNDS,
}
LABELS = ["matching", *["wins"] * 5, "below", "below"]


def claimed(evidence):
    return list(evidence.labels().values())


def test_a_study_of_clear_effects_is_read_as_it_is():
    evidence = Evidence(points(GAINS, CONTROLS))
    assert claimed(evidence) == LABELS
    verdict = evidence.verdict()
    assert verdict.winning == [2, 3, 4, 5, 6]
    assert verdict.matching == [1, 2, 3, 4, 5, 6]
    assert verdict.below == [7, 8]
    assert verdict.better == [2, 3, 4, 5, 6, 7, 8]
    assert {name: wins[:1] for name, wins in verdict.wins.items()} == {"reinit": [2], "random": [1], "signs": []}
    assert verdict.close["signs"] == [*range(1, ROUNDS + 1)]
    assert verdict.close["random"] == []
    assert verdict.seeds == 5 and verdict.look == 1
    assert verdict.round == 6
    assert not verdict.forecast and verdict.seeds_added is None


def test_the_verdict_says_so_in_words_with_its_numbers():
    said = str(Evidence(points(GAINS, CONTROLS)).verdict())
    for part in (
        "A winning ticket in rounds 2 to 6 (64 % to 26.2 % of the weights): within 1 point of dense",
        "better than reinit and random, over 5 seeds.",
        "test_acc at each training's step of best validation",
        "Every claim is about these test images.",
        "This is look 1 at the study, which spends 80 % of the level of 5 %",
        "points worse than dense, mean gain +0.0",
        "Round 7 (21 %) is not shown to match, mean gain −3.0",
        "; it is shown to be more than 1 point worse.",
        "Better than reinit: rounds 2 to 8",
        "Better than signs, which informs: shown in no round",
        "signs does as well, less than 1 point worse, in rounds 1 to 8",
        "Largest mean gain over dense: round ",
        "so the mean flatters",
        "Steps to a margin below what both reach, in round 6: 1.00 of dense's, 1.00 of reinit's",
        "No training collapsed",
        "5 seeds cannot exclude that in up to 52.2 % of seeds one does",
    ):
        assert part in said
    for part in ("Not trained", "the next look would", "wider than", "collapsed."):
        assert part not in said


def test_less_is_better_gives_the_same_verdict_mirrored():
    losses = points(GAINS, CONTROLS, sign=-1).assign(value=lambda p: p["value"] + 2)
    mirrored = Evidence(losses, margin=0.01, lower_is_better=True, metric="test_loss")
    plain = Evidence(points(GAINS, CONTROLS), margin=0.01)
    assert claimed(mirrored) == claimed(plain)
    columns = ["gain", "low", "high", "p", "p_adjusted"]
    np.testing.assert_allclose(mirrored.table()[columns], plain.table()[columns], atol=1e-9)
    assert "within 0.01 of dense" in mirrored.verdict().headline


def test_tables_hold_what_scipy_finds():
    frame = points(GAINS, CONTROLS, noise=0.01)
    evidence = Evidence(frame, margin=0.02)
    by = frame.pivot_table(index="seed", columns=["arm", "round"], values="value")
    table, reinit = evidence.table(), evidence.comparison("reinit")
    for round in table.index:
        ticket, dense = by["ticket"][round], by["dense"][0]
        known = stats.ttest_rel(ticket, dense - 0.02, alternative="greater")
        assert table["p"][round] == pytest.approx(known.pvalue)
        assert table["gain"][round] == pytest.approx((ticket - dense).mean())
        low, high = stats.ttest_rel(ticket, dense).confidence_interval()
        assert table.loc[round, ["low", "high"]].tolist() == pytest.approx([low, high])
        assert table["dense"][round] == pytest.approx(dense.mean())
        assert table["density"][round] == pytest.approx(0.8**round)
        known = stats.ttest_rel(ticket, by["reinit"][round], alternative="greater")
        assert table["reinit p"][round] == reinit["p"][round]
        assert reinit["p"][round] == pytest.approx(known.pvalue)
        assert reinit["control"][round] == pytest.approx(by["reinit"][round].mean())
    assert (table["p_adjusted"] >= table["p"]).all()
    assert (table["matching"] == (table["p_adjusted"] <= 0.05)).all()
    assert table["seeds"].eq(5).all()


def test_the_order_of_points_does_not_matter():
    frame = points(GAINS, CONTROLS)
    shuffled = frame.sample(frac=1, random_state=0)
    one, other = Evidence(frame).table(), Evidence(shuffled).table()
    pd.testing.assert_frame_equal(one, other[one.columns])


def test_an_informative_control_takes_nothing_from_the_headline():
    few = Evidence(points(GAINS, {"reinit": CONTROLS["reinit"], "random": CONTROLS["random"]}, rng=3))
    frame = points(GAINS, {"reinit": CONTROLS["reinit"], "random": CONTROLS["random"]}, rng=3)
    signs = frame[frame["arm"] == "ticket"].assign(arm="signs")
    more = Evidence(pd.concat([frame, signs]))
    assert "signs" not in more.required
    assert more.verdict().headline == few.verdict().headline
    np.testing.assert_array_equal(more.ahead.adjusted, few.ahead.adjusted)
    required = Evidence(pd.concat([frame, signs]), required={**more.required, "signs": "weights"})
    assert not required.winning.any()
    assert "better than all of reinit, random and signs in no round" in required.verdict().headline


@pytest.mark.parametrize("name", ["reinit", "reinit-signs", "shuffle", "shuffle-fan-in", "random", "random-erk"])
def test_every_control_of_fresh_weights_or_random_masks_must_be_beaten(name):
    """One that does as well as the ticket is enough for it not to win."""
    controls = {"reinit": [0.05] * ROUNDS, "random": [0.05] * ROUNDS, name: [0.0] * ROUNDS}
    verdict = Evidence(points(GAINS, controls)).verdict()
    assert not verdict.winning
    assert verdict.matching == [1, 2, 3, 4, 5, 6]
    assert "in no round" in verdict.headline


@pytest.mark.parametrize("name", ["signs", "shuffle-weights", "one-shot", "magnitude-init", "order", "of my own"])
def test_other_controls_inform(name):
    controls = {"reinit": [0.05] * ROUNDS, "random": [0.05] * ROUNDS, name: [0.0] * ROUNDS}
    assert Evidence(points(GAINS, controls)).verdict().winning


def test_a_ticket_is_called_winning_only_where_weights_and_masks_are_ruled_out():
    said = {name: Evidence(points(GAINS, {name: [0.05] * ROUNDS})).verdict() for name in ("reinit", "random")}
    for name, lacking in (("reinit", "random masks, such as random"), ("random", "fresh weights under its masks")):
        assert not said[name].winning and said[name].ahead
        assert said[name].headline.startswith("A matching ticket") and f"better than {name}" in said[name].headline
        assert lacking in said[name].headline


def test_without_controls_nothing_is_called_winning():
    verdict = Evidence(points(GAINS)).verdict()
    assert not verdict.winning and verdict.matching
    assert "needs a control of fresh weights under its masks, such as reinit and a control of" in verdict.headline
    assert not verdict.forecast  # matching is shown


def test_a_control_trained_in_some_rounds_only_can_be_beaten_there_only():
    some = [None, 0.05, None, 0.05, None, None, None, None]
    evidence = Evidence(points(GAINS, {"reinit": some, "random": [0.05] * ROUNDS}))
    assert evidence.comparison("reinit").index.tolist() == [2, 4]
    assert [r for r, label in evidence.labels().items() if label == "wins"] == [2, 4]
    assert evidence.ahead.size == 2
    assert not evidence.missing
    assert evidence.table()["reinit gain"].isna().sum() == ROUNDS - 2


def test_matching_stops_where_a_denser_round_is_not_shown_to_match():
    gains = [0.0, 0.0, -0.03, 0.0, 0.0]
    evidence = Evidence(points(gains))
    assert evidence.verdict().matching == [1, 2]
    assert claimed(evidence)[2:] == ["below", "open", "open"]


# seeds: too few, missing, failed


TWO = {"reinit": [0.03, 0.03], "random": [0.03, 0.03]}


def test_few_seeds_say_how_likely_more_would_show_it_and_these_do():
    small = Evidence(points([0.0, 0.0], TWO, seeds=4, noise=0.006, rng=7))
    verdict = small.verdict()
    assert not verdict.winning
    assert 3 <= verdict.seeds_added <= 45
    assert f"With {verdict.seeds_added} more seeds the next look would show a winning ticket" in str(verdict)
    for one in verdict.forecast:
        assert 0 <= one.low <= one.chance <= one.high <= 1
    enough = points([0.0, 0.0], TWO, seeds=40, noise=0.006, rng=7)
    assert Evidence(enough).verdict().winning


def test_where_more_seeds_would_not_do_it_says_so():
    verdict = Evidence(points([-0.1, -0.1], {"reinit": [0.1, 0.1], "random": [0.1, 0.1]})).verdict()
    assert verdict.seeds_added is None
    assert "Even with 45 more seeds the next look would show a winning ticket with a chance of 0 %" in str(verdict)
    assert verdict.below == [1, 2]


def test_what_cannot_be_forecast_is_not():
    """Three seeds in which the gain is all noise: anything may be true."""
    verdict = Evidence(points([0.0, 0.0], {"reinit": [0.01, 0.01], "random": [0.01, 0.01]}, 3, 0.02, rng=2)).verdict()
    assert verdict.seeds_added is None
    assert "How many seeds would show a winning ticket cannot be said yet" in str(verdict)


def test_wide_intervals_are_pointed_out():
    said = str(Evidence(points(GAINS, CONTROLS, seeds=3, noise=0.02)).verdict())
    assert "wider than the margin to either side in" in said
    assert "wider than" not in str(Evidence(points(GAINS, CONTROLS)).verdict())


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_claim_nothing(seeds):
    evidence = Evidence(points(GAINS, CONTROLS, seeds=seeds))
    assert set(claimed(evidence)) == {"open"}
    verdict = evidence.verdict()
    assert verdict.seeds_added is None
    assert "so nothing is claimed: three are the fewest, five are usual" in verdict.headline
    assert "Better than" not in str(verdict)
    assert evidence.table()["gain"].notna().all()
    assert evidence.table()["p"].isna().all()


def changed(frame, *places, value=math.nan):
    here = frame.set_index(["arm", "seed", "round"]).sort_index()
    for place in places:
        here.loc[place, "value"] = value
    return here.reset_index()


def test_missing_trainings_are_named_and_the_rest_is_paired():
    here = points(GAINS, CONTROLS).set_index(["arm", "seed", "round"]).sort_index()
    here = here.drop([("ticket", 1, 5), ("signs", 4, 8), ("signs", 3, 8)])
    evidence = Evidence(here.reset_index(), margin=0.01)
    assert evidence.missing == ["ticket round 5: seed 1", "signs round 8: seeds 3, 4"]
    assert evidence.table()["seeds"].tolist() == [5, 5, 5, 5, 4, 5, 5, 5]
    assert evidence.comparison("signs")["seeds"].tolist() == [5, 5, 5, 5, 4, 5, 5, 3]
    by = here["value"]
    seeds = [0, 2, 3, 4]
    known = np.mean([by["ticket", s, 5] - by["reinit", s, 5] for s in seeds])
    assert evidence.comparison("reinit")["gain"][5] == pytest.approx(known)
    verdict = evidence.verdict()
    assert "Not trained: ticket round 5: seed 1;" in str(verdict)
    assert verdict.seeds == 4 and "over 4 seeds" in verdict.headline  # the fewest behind what is claimed


def test_a_training_that_failed_is_a_result_and_never_a_win():
    """A ticket that diverges in one seed of five is not shown to be as good as anything, in that round."""
    for value in (math.nan, -math.inf, math.inf):
        frame = changed(points(GAINS, CONTROLS), ("ticket", 2, 3), value=value)
        evidence = Evidence(frame, margin=0.01)
        assert not evidence.missing
        assert evidence.table()["seeds"].eq(5).all()
        assert evidence.table()["p"][3] == 1 and evidence.comparison("reinit")["p"][3] == 1
        assert evidence.labels()[3] == "open" and evidence.labels()[2] == "wins"
        assert evidence.verdict().collapses["ticket"].collapsed == 1
        assert "But 1 of its 40 trainings collapsed." in evidence.verdict().headline


def test_a_control_that_failed_counts_as_beaten_there_and_no_more():
    """As much as in the seed in which the ticket was furthest ahead of it."""
    frame = changed(points(GAINS, CONTROLS), ("reinit", 2, 3))
    by = frame.pivot_table(index="seed", columns=["arm", "round"], values="value", dropna=False)
    gains = (by["ticket"][3] - by["reinit"][3]).to_numpy(copy=True)
    gains[2] = np.nanmax(gains)
    known = stats.ttest_1samp(gains, 0, alternative="greater").pvalue
    evidence = Evidence(frame, margin=0.01)
    assert evidence.comparison("reinit")["p"][3] == pytest.approx(known)
    assert evidence.comparison("reinit")["low"].isna()[3]
    assert not evidence.close["reinit"].shown[2]


def test_no_number_of_failures_helps_the_ticket():
    """Of a round with more and more failed tickets, less and less is claimed."""
    frame, before = points(GAINS, CONTROLS), 0.0
    for failed in range(6):
        evidence = Evidence(changed(frame, *[("ticket", seed, 2) for seed in range(failed)]), margin=0.01)
        assert evidence.matching.p[1] >= before
        before = evidence.matching.p[1]
        assert not failed or not evidence.winning[1]


def test_tickets_that_collapse_are_counted_with_what_so_few_seeds_cannot_exclude():
    frame = points([0.0] * 6, {"reinit": [0.05] * 6, "random": [0.05] * 6})
    lower = changed(frame, ("ticket", 1, 2), ("ticket", 3, 6), value=0.7)
    verdict = Evidence(lower).verdict()
    assert "But 2 of its 30 trainings collapsed." in verdict.headline
    found = verdict.collapses["ticket"]
    known = stats.binomtest(2, 5).proportion_ci(0.95)
    assert (found.low, found.high) == pytest.approx(known)
    assert "2 of 30 trainings of ticket, in 2 of 5 seeds (95 % interval 5.27 % to 85.3 %)" in str(verdict)
    assert verdict.winning == [1, 3, 4, 5]
    assert "collapsed" not in Evidence(frame).verdict().headline


def test_a_seed_without_dense_is_left_out_of_that_comparison_alone():
    frame = points(GAINS, CONTROLS)
    frame = frame[(frame["arm"] != "dense") | (frame["seed"] != 0)]
    evidence = Evidence(frame)
    assert evidence.missing == ["dense: seed 0"]
    assert evidence.table()["seeds"].eq(4).all()
    assert evidence.comparison("reinit")["seeds"].eq(5).all()


@pytest.mark.parametrize("arms", [[], ["dense"], ["ticket"], ["reinit"]])
def test_a_study_that_has_just_begun_has_nothing_to_compare(arms):
    frame = points(GAINS, CONTROLS)
    evidence = Evidence(frame[frame["arm"].isin(arms)], margin=0.01)
    assert "Nothing to compare yet" in str(evidence.verdict())
    assert evidence.table()["seeds"].sum() == 0
    assert not evidence.verdict().winning
    evidence.speed()
    evidence._repr_html_()


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_whatever_is_missing_claims_follow_from_tests(data):
    frame = points(GAINS[:3], {n: v[:3] for n, v in CONTROLS.items()}, seeds=3)
    there = data.draw(st.lists(st.booleans(), min_size=len(frame), max_size=len(frame)))
    evidence = Evidence(frame[there], margin=0.01)
    verdict, table = evidence.verdict(), evidence.table()
    assert verdict.winning == [r for r, x in evidence.labels().items() if x == "wins"]
    assert not (table["matching"] & (table["seeds"] < 3)).any()
    for name in evidence.controls:
        one = evidence.comparison(name)
        assert not (one["wins"] & (one["seeds"] < 3)).any()
        assert (one["wins"] == (one["p_adjusted"] <= 0.05)).all()
    assert evidence.speed()["seeds"].le(3).all()


def test_equal_accuracies_in_all_seeds_are_no_proof():
    """Three seeds of 360 test images often differ by the same number of images."""
    evidence = Evidence(points([0.0] * 3, {"reinit": [1 / 360] * 3}, 3, noise=0.0))
    assert not evidence.comparison("reinit")["wins"].any()
    assert evidence.comparison("reinit")["p"].eq(1 / 8).all()
    assert evidence.comparison("reinit")["low"].isna().all()


def test_identical_values_are_called_identical():
    frame = points([0.0] * 3, {"reinit": [0.0] * 3}, seeds=4, noise=0.0)
    said = str(Evidence(frame).verdict())
    assert "Round 1 (80 %) is not shown to match, identical in every seed" in said  # four signs are no proof
    more = str(Evidence(points([0.0] * 3, {"reinit": [0.0] * 3}, seeds=8, noise=0.0)).verdict())
    assert "At round 3 (51.2 %) it is identical in every seed" in more
    assert "+0.00 points (" not in said


def test_a_round_in_which_all_differ_widely_has_not_collapsed():
    """However steady the arm is in its other rounds."""
    frame = points([0.0] * 4, {"random": [0.02] * 4}, seeds=6)
    wide = (frame["arm"] == "random") & (frame["round"] == 4)
    frame.loc[wide, "value"] = [0.5, 0.6, 0.7, 0.8, 0.55, 0.75]
    assert Evidence(frame, margin=0.01).collapses["random"].collapsed == 0
    frame.loc[wide & (frame["seed"] == 2), "value"] = -0.5
    assert Evidence(frame, margin=0.01).collapses["random"].collapsed == 1


# one claim, several looks


def test_a_first_look_leaves_a_fifth_of_the_level_and_a_second_joins_its_seeds():
    frame = points([0.0, 0.0], TWO, seeds=10, noise=0.006, rng=1)
    one, two = Evidence(frame), Evidence(frame, looks=[range(5), range(5, 10)])
    assert (one.look, two.look) == (1, 2)
    first, second = (Evidence(frame[frame["seed"].isin(seeds)]).matching.p for seeds in (range(5), range(5, 10)))
    joined = stats.combine_pvalues([first[0], second[0]], "stouffer").pvalue
    assert two.matching.p[0] == pytest.approx(joined)
    np.testing.assert_allclose(one.matching.adjusted, np.maximum.accumulate(one.matching.p) / 0.8)
    assert "This is look 2 at the study, which spends 16 % of the level of 5 %" in str(two.verdict())
    with pytest.raises(ValueError, match="lack the seeds"):
        Evidence(frame, looks=[range(5)])


def test_that_a_round_wins_is_one_claim_over_all_rounds():
    """All of its tests in one, by Holm over the rounds; informing controls have no part in it."""
    evidence = Evidence(points(GAINS, CONTROLS, noise=0.01))
    every = [evidence.matching.p, evidence.comparison("reinit")["p"], evidence.comparison("random")["p"]]
    _, known, *_ = multipletests(np.max(every, axis=0), method="holm")
    np.testing.assert_allclose(evidence.ahead.adjusted, np.minimum(known / 0.8, 1), rtol=1e-9)
    np.testing.assert_array_equal(evidence.table()["p_wins"], evidence.ahead.adjusted)


@pytest.mark.parametrize("place", range(3))
def test_the_bound_beside_the_margin_is_the_margin_that_would_just_be_shown(place):
    evidence = Evidence(points([0.0, -0.002, 0.005], noise=0.003))
    worst = evidence.largest_loss(place)
    assert worst < evidence.margin.amount
    gains = evidence.gains["dense"]
    t = stats.t.isf(0.05 * 0.8, 4)
    assert worst == pytest.approx(t * gains.error[place] - gains.mean[place])


def test_controls_that_do_as_well_are_named_in_the_headline():
    verdict = Evidence(points([0.0] * 3, {"reinit": [0.0] * 3, "random": [0.0] * 3})).verdict()
    assert verdict.equalled == [1, 2, 3]
    assert verdict.headline.startswith(
        "No winning ticket, over 5 seeds: reinit and random do as well, less than 1 point worse"
    )
    partly = Evidence(points([0.0] * 3, {"reinit": [0.0] * 3, "random": [0.0, 0.03, 0.03]})).verdict()
    assert partly.equalled == [1]
    assert partly.headline.startswith("No winning ticket is shown, over 5 seeds: reinit and random do as well")


def test_a_ticket_that_is_worse_within_the_margin_is_called_so():
    said = str(Evidence(points([-0.005] * 2, noise=0.0005)).verdict())
    assert "points worse than dense, mean gain −0.5" in said
    assert "it is worse than dense, within the margin" in said


def test_a_margin_can_be_a_share_of_the_error_of_dense():
    frame = points(GAINS, CONTROLS, noise=0.004)
    evidence = Evidence(frame, margin="10%")
    dense = 1 - frame[frame["arm"] == "dense"].set_index("seed")["value"]
    ticket = 1 - frame[(frame["arm"] == "ticket") & (frame["round"] == 6)].set_index("seed")["value"]
    known = stats.ttest_1samp(1.1 * dense - ticket, 0, alternative="greater").pvalue
    assert evidence.matching.p[5] == pytest.approx(known)
    assert "no more than 10 % of dense's error worse than dense" in evidence.verdict().headline
    losses = frame.assign(value=1 - frame["value"])
    mirrored = Evidence(losses, margin="10%", lower_is_better=True, metric="test_loss")
    np.testing.assert_allclose(mirrored.matching.p, evidence.matching.p)
    with pytest.raises(ValueError, match="no error to take a share of"):
        Evidence(frame, margin="10%", metric="test_f1").verdict()


def test_what_was_not_tested_on_other_data_is_said():
    assert "There is no test metric" in str(Evidence(points(GAINS), tested=False).verdict())


def test_nothing_is_claimed_of_a_study_that_is_not_complete():
    evidence = Evidence(points(GAINS, CONTROLS), waiting="3 of 9 trainings are done")
    verdict = evidence.verdict()
    assert verdict.headline == "Nothing is claimed yet: 3 of 9 trainings are done."
    assert set(claimed(evidence)) == {"open"} and not verdict.forecast
    assert evidence.table()["gain"].notna().all()


# learning speed


def test_speed_is_the_ratio_of_steps_to_the_level_that_both_reach():
    """Whoever got further is asked for no more than the other got."""
    curves = {
        "dense": ((100, 0.5), (200, 0.8), (400, 0.9)),
        "ticket": ((50, 0.6), (100, 0.85)),
        "reinit": ((300, 0.7),),
    }
    frame = points([0.0], {"reinit": [0.0]}, seeds=3)
    frame = frame.assign(progress=frame["arm"].map(curves))
    table = Evidence(frame).speed()
    assert table["ratio"].to_dict() == pytest.approx({("dense", 1): 100 / 400, ("reinit", 1): 100 / 300})
    assert table["low"].isna().all()  # the same in each seed


def test_the_interval_of_a_speed_is_that_of_students_t_on_logarithms():
    took = [100.0, 50.0, 25.0]
    frame = points([0.0], {}, seeds=3, reached=lambda arm, seed, round: took[seed] if arm == "ticket" else 200.0)
    ticket = Evidence(frame).speed().loc[("dense", 1)]
    assert ticket["ratio"] == pytest.approx(0.25)
    low, high = stats.ttest_1samp(np.log(np.array(took) / 200), 0).confidence_interval()
    assert ticket[["low", "high"]].tolist() == pytest.approx([np.exp(low), np.exp(high)])


def test_a_failed_training_never_gets_there():
    frame = points([0.0], {"reinit": [0.0]}, seeds=3)
    lost = (frame["arm"] == "reinit") & (frame["seed"] == 1)
    frame["progress"] = [() if gone else kept for gone, kept in zip(lost, frame["progress"])]
    table = Evidence(frame).speed()
    assert table["ratio"][("reinit", 1)] == 0 and math.isnan(table["low"][("reinit", 1)])
    assert table["ratio"][("dense", 1)] == pytest.approx(1)


def test_without_curves_nothing_is_said_of_speed():
    evidence = Evidence(points(GAINS, CONTROLS).drop(columns="progress"))
    assert evidence.speed().empty
    assert "Steps to" not in str(evidence.verdict())


# bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="value"), r"points lack \['value'\]"),
        (lambda p: pd.concat([p, p.iloc[[3]]]), "occurs twice"),
        (lambda p: p.assign(round=0).drop_duplicates(["arm", "seed"]), "round 0 is"),
        (
            lambda p: p.assign(budget=np.where(p["arm"] == "random", 680, 340)),
            "random has budget 680 in round 1, seed 0, where ticket has 340",
        ),
        (
            lambda p: p.assign(budget=np.where(p["arm"] == "dense", 680, 340)),
            "ticket has budget 340 in round 1, seed 0, where dense has 680",
        ),
        (
            lambda p: p.assign(density=p["density"] * np.where(p["arm"] == "signs", 1.03, 1)),
            "signs has density 0.824 in round 1, seed 0, where ticket has 0.8:",
        ),
    ],
)
def test_points_that_cannot_be_compared_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Evidence(change(points(GAINS, CONTROLS)))


def test_densities_equal_but_for_rounding_and_unknown_budgets_are_accepted():
    frame = points(GAINS, CONTROLS)
    reinit = frame["arm"] == "reinit"
    frame = frame.assign(
        density=frame["density"] * np.where(reinit, 1.01, 1),
        budget=np.where(reinit, np.nan, 340),
        steps=np.where(reinit, 200, 340),  # stopped early
    )
    assert claimed(Evidence(frame)) == LABELS


def test_settings_out_of_range_are_named():
    frame = points(GAINS)
    for margin in (0, -0.1, math.nan, math.inf, "a lot", "0%", "-10%", "nan"):
        with pytest.raises(ValueError, match="margin="):
            Evidence(frame, margin=margin)
    for level in (0, 0.5, 1, 5):
        with pytest.raises(ValueError, match="level="):
            Evidence(frame, level=level)
    with pytest.raises(ValueError, match="no control 'shuffle'.*reinit, random, signs"):
        Evidence(points(GAINS, CONTROLS)).comparison("shuffle")


def test_a_metric_that_is_no_accuracy_needs_a_margin():
    for wrong in ({"metric": "test_f1"}, {"lower_is_better": True}):
        with pytest.raises(ValueError, match="margin=..."):
            Evidence(points(GAINS), **wrong)
    in_percent = points(GAINS).assign(value=lambda p: 100 * p["value"])
    with pytest.raises(ValueError, match="margin=..."):
        Evidence(in_percent)
    assert Evidence(points(GAINS)).margin.amount == 0.01


def test_evidence_shows_itself_in_one_line_and_as_html():
    evidence = Evidence(points(GAINS, CONTROLS))
    assert evidence.verdict().headline in repr(evidence)
    assert "\n" not in repr(evidence)
    shown = evidence._repr_html_()
    assert "<table" in shown
    assert "A winning ticket" in shown


def test_a_diverged_training_does_not_blur_the_others():
    """Losses of 1e9 in one control leave the rounding of the rest as it was."""
    frame = points([0.0, 0.0], {"reinit": [0.02, 0.02], "random": [0.02, 0.02]})
    frame = frame.assign(value=1 - frame["value"])
    worst = (frame["arm"] == "random") & (frame["round"] == 2)
    blown = frame.assign(value=frame["value"].where(~worst, 1e9))
    one, other = (Evidence(f, margin=0.01, lower_is_better=True, metric="test_loss") for f in (frame, blown))
    columns = ["gain", "p", "reinit p", "random gain"]
    pd.testing.assert_frame_equal(one.table()[columns][:1], other.table()[columns][:1])
    assert other.table()["reinit p"][2] == one.table()["reinit p"][2]


def test_a_control_of_which_nothing_is_there_is_named_and_not_beaten():
    found = points(GAINS, {"reinit": CONTROLS["reinit"], "shuffle": CONTROLS["random"]})
    assert Evidence(found).verdict().winning
    partial = Evidence(found, planned=["reinit", "random"])
    assert not partial.verdict().winning
    assert partial.missing == ["random: seeds 0, 1, 2, 3, 4"]
    assert "random" in str(partial.verdict())
    assert not partial.table()["random wins"].any()


# ten truths

SAID = (
    (
        r"A winning ticket in rounds 2 to 4 .* over 5 seeds\.$",
        ("reinit does as well, .* in round 1 ", "Round 5 .* more than"),
    ),
    (r"No winning ticket, over 5 seeds: reinit and random do as well", ("chance of . % .* only", "in rounds 1 to 6")),
    (
        r"No winning ticket is shown, .* better than both reinit and random-erk in no round",
        ("random-erk does as well",),
    ),
    (r"A winning ticket in rounds 1 to 6", ("worse than dense, within the margin", "at most 0.6.* worse than dense")),
    (r"No winning ticket is shown, .* within 1 point of dense in no round", ("shown to be more than 1 point worse",)),
    (r"A winning ticket in round 1 .* But 2 of its 30 trainings collapsed", ("in 2 of 5 seeds",)),
    (r"A winning ticket in rounds 1 to 2 .* and rounds 4 to 6", ("in 1 of 5 pairs a training failed",)),
    (r"No winning ticket is shown, over 3 seeds", ("wider than the margin",)),
    (
        r"A matching ticket in .* To call it winning needs a control of random masks",
        ("Better than reinit: rounds 1 to 6",),
    ),
    (r"No winning ticket, over 10 seeds: reinit and random do as well", ("This is look 2 at the study",)),
)


@pytest.mark.parametrize("number", range(len(SAID)))
def test_a_verdict_on_a_known_truth_says_no_more_and_no_less(number):
    """Its words are in docs/statistics.md too, for whoever doubts them."""
    verdict = list(ten_truths.cases())[number].evidence.verdict()
    line, parts = SAID[number]
    assert re.match(line, verdict.headline)
    for part in parts:
        assert re.search(part, str(verdict)), part
    claims_it = verdict.headline.startswith("A winning ticket")
    assert claims_it == bool(verdict.winning) == (number in (0, 3, 5, 6))


def test_the_page_has_what_is_said_of_each_truth_now():
    assert ten_truths.text() in ten_truths.PAGE.read_text(), "cd tests && python -m ten_truths"
