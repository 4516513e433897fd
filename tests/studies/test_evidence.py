"""Evidence of a study: from its points to claims and words, on studies whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lottery.studies.evidence import Evidence

ROUNDS = 8
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
        steps = {"step": 200.0, "reached": reached(arm, seed, round), "steps": 340}
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
    assert verdict.winning
    assert (verdict.first_winning, verdict.last_winning) == (2, 6)
    assert (verdict.first_matching, verdict.last_matching) == (1, 6)
    assert verdict.first_below == 7
    assert verdict.first_win == {"reinit": 2, "random": 1, "signs": None}
    assert verdict.close["signs"] == tuple(range(1, ROUNDS + 1))
    assert verdict.close["random"] == ()
    assert verdict.seeds_needed == verdict.seeds == 5
    assert verdict.round == 6
    assert not verdict.open


def test_the_verdict_says_so_in_words_with_its_numbers():
    said = str(Evidence(points(GAINS, CONTROLS)).verdict())
    for part in (
        "A winning ticket in rounds 2 to 6 (64 % to 26.2 % of the weights): within 1 point of dense",
        "better than reinit and random, over 5 seeds.",
        "test_acc at each training's step of best validation",
        "round 7 (21 %) is the first shown to be more than 1 point worse: −3.0",
        "Better than reinit (Holm over 16): rounds 2 to 8",
        "Better than signs (Holm over 8): shown in no round",
        "it comes close, shown to be less than 1 point worse than the ticket, in rounds 1 to 8",
        "Largest mean gain over dense: round ",
        "ticket 0.50, 5 of 5 seeds",
    ):
        assert part in said
    assert "Undecided" not in said
    assert "Missing" not in said


def test_less_is_better_gives_the_same_verdict_mirrored():
    losses = points(GAINS, CONTROLS, sign=-1).assign(value=lambda p: p["value"] + 2)
    mirrored = Evidence(losses, margin=0.01, lower_is_better=True, metric="test_loss")
    plain = Evidence(points(GAINS, CONTROLS), margin=0.01)
    assert claimed(mirrored) == claimed(plain)
    columns = ["gain", "low", "high", "p", "p_holm"]
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
    assert (table["p_holm"] >= table["p"]).all()
    assert (table["matching"] == (table["p_holm"] <= 0.05)).all()
    assert table["seeds"].eq(5).all()


def test_the_order_of_points_does_not_matter():
    frame = points(GAINS, CONTROLS)
    shuffled = frame.sample(frac=1, random_state=0)
    one, other = Evidence(frame).table(), Evidence(shuffled).table()
    pd.testing.assert_frame_equal(one, other[one.columns])


def test_an_informative_control_takes_nothing_from_those_that_must_be_beaten():
    few = Evidence(points(GAINS, {"reinit": CONTROLS["reinit"]}, rng=3))
    frame = points(GAINS, {"reinit": CONTROLS["reinit"]}, rng=3)
    signs = frame[frame["arm"] == "ticket"].assign(arm="signs")
    more = Evidence(pd.concat([frame, signs]))
    pd.testing.assert_frame_equal(
        few.comparison("reinit")["p_holm"].to_frame(), more.comparison("reinit")["p_holm"].to_frame()
    )
    assert not more.comparison("signs")["wins"].any()
    assert "signs" not in more.must_beat
    required = Evidence(pd.concat([frame, signs]), must_beat=["reinit", "signs"])
    assert not required.winning.any()
    assert not required.verdict().winning


def test_a_ticket_that_matches_is_no_winning_one_if_random_masks_do_as_well():
    controls = {"reinit": [0.05] * ROUNDS, "random-erk": [0.0] * ROUNDS}
    verdict = Evidence(points(GAINS, controls)).verdict()
    assert not verdict.winning
    assert verdict.last_matching == 6
    assert "better than random-erk in no round" in verdict.headline
    assert verdict.seeds_needed is None or verdict.seeds_needed > 5


def test_without_controls_nothing_is_called_winning():
    verdict = Evidence(points(GAINS)).verdict()
    assert not verdict.winning
    assert "needs controls" in verdict.headline
    assert verdict.seeds_needed == 5  # matching is shown


def test_a_control_trained_in_some_rounds_only_can_be_beaten_there_only():
    some = [None, 0.05, None, 0.05, None, None, None, None]
    evidence = Evidence(points(GAINS, {"reinit": some}))
    assert evidence.comparison("reinit").index.tolist() == [2, 4]
    assert [r for r, label in evidence.labels().items() if label == "wins"] == [2, 4]
    assert evidence.wins["reinit"].size == 2
    assert not evidence.missing
    assert evidence.table()["reinit gain"].isna().sum() == ROUNDS - 2


# seeds: too few, missing, failed


def test_too_few_seeds_say_how_many_would_do_and_that_many_do():
    controls = {"reinit": [0.02, 0.02]}
    small = Evidence(points([0.0, 0.0], controls, seeds=3, noise=0.008, rng=1))
    verdict = small.verdict()
    assert not verdict.winning
    assert 3 < verdict.seeds_needed <= 50
    assert f"about {verdict.seeds_needed} would show" in str(verdict)
    assert set(verdict.open) == {1, 2}
    enough = points([0.0, 0.0], controls, seeds=40, noise=0.008, rng=1)
    assert Evidence(enough).verdict().winning


def test_where_fifty_seeds_would_not_do_it_says_so():
    verdict = Evidence(points([-0.1, -0.1], {"reinit": [0.1, 0.1]})).verdict()
    assert verdict.seeds_needed is None
    assert "Not even 50 seeds" in str(verdict)
    assert "2 of 2 shown to be worse" in verdict.headline


def test_wide_intervals_are_pointed_out():
    said = str(Evidence(points(GAINS, CONTROLS, seeds=3, noise=0.02)).verdict())
    assert "wider than the margin to either side in" in said
    assert "wider than" not in str(Evidence(points(GAINS, CONTROLS)).verdict())


def test_one_seed_claims_nothing():
    evidence = Evidence(points(GAINS, CONTROLS, seeds=1))
    assert set(claimed(evidence)) == {"open"}
    verdict = evidence.verdict()
    assert verdict.seeds_needed is None
    assert "One seed cannot tell" in verdict.headline
    assert "Better than" not in str(verdict)
    assert evidence.table()["gain"].notna().all()
    assert evidence.table()["p"].isna().all()


def test_missing_and_failed_trainings_are_named_and_the_rest_is_paired():
    frame = points(GAINS, CONTROLS)
    here = frame.set_index(["arm", "seed", "round"]).sort_index()
    here.loc[("reinit", 2, 3), "value"] = math.nan  # diverged
    here.loc[("random", 0, 4), "value"] = math.inf
    here = here.drop([("ticket", 1, 5), ("signs", 4, 8), ("signs", 3, 8)])
    evidence = Evidence(here.reset_index(), margin=0.01)
    assert evidence.missing == [
        "ticket round 5: seed 1",
        "random round 4: seed 0",
        "reinit round 3: seed 2",
        "signs round 8: seeds 3, 4",
    ]
    assert evidence.table()["seeds"].tolist() == [5, 5, 5, 5, 4, 5, 5, 5]
    assert evidence.comparison("reinit")["seeds"].tolist() == [5, 5, 4, 5, 4, 5, 5, 5]
    by = here["value"]
    seeds = [0, 1, 3, 4]
    known = np.mean([by["ticket", s, 3] - by["reinit", s, 3] for s in seeds])
    assert evidence.comparison("reinit")["gain"][3] == pytest.approx(known)
    differences = [by["ticket", s, 4] - by["random", s, 4] for s in (1, 2, 3, 4)]
    known = stats.ttest_1samp(differences, 0, alternative="greater").pvalue
    assert evidence.comparison("random")["p"][4] == pytest.approx(known)
    assert "Missing, or without a finite value: ticket round 5: seed 1;" in str(evidence.verdict())


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
    assert verdict.winning == ("wins" in claimed(evidence))
    assert set(verdict.open) == {r for r, x in evidence.labels().items() if x == "open"}
    assert not (table["matching"] & (table["seeds"] < 2)).any()
    for name in evidence.controls:
        one = evidence.comparison(name)
        assert not (one["wins"] & (one["seeds"] < 2)).any()
        assert (one["wins"] == (one["p_holm"] <= 0.05)).all()
    assert evidence.speed()["seeds"].le(3).all()


def test_equal_accuracies_in_all_seeds_are_no_proof():
    """Three seeds of 360 test images often differ by the same number of images."""
    evidence = Evidence(points([0.0] * 3, {"reinit": [1 / 360] * 3}, 3, noise=0.0))
    assert not evidence.comparison("reinit")["wins"].any()
    assert evidence.comparison("reinit")["p"].eq(1 / 8).all()
    assert evidence.comparison("reinit")["low"].isna().all()


# learning speed


def test_speed_is_the_geometric_mean_of_paired_ratios():
    took = {"ticket": [100.0, 50.0, 25.0], "reinit": [400.0, 200.0, math.nan]}

    def reached(arm, seed, round):
        return took[arm][seed] if arm in took else 200.0

    frame = points([0.0], {"reinit": [0.0]}, seeds=3, reached=reached)
    table = Evidence(frame).speed()
    ticket = table.loc[("ticket", 1)]
    assert ticket["ratio"] == pytest.approx(0.25)
    logs = np.log(np.array(took["ticket"]) / 200)
    low, high = stats.ttest_1samp(logs, 0).confidence_interval()
    assert ticket[["low", "high"]].tolist() == pytest.approx([np.exp(low), np.exp(high)])
    reinit = table.loc[("reinit", 1)]
    assert (reinit["reached"], reinit["seeds"]) == (2, 3)
    assert reinit["ratio"] == pytest.approx(2**0.5)


def test_an_arm_that_never_gets_there_has_no_ratio():
    frame = points([0.0], {"reinit": [0.0]}).assign(reached=lambda p: p["reached"].where(p["arm"] != "reinit"))
    evidence = Evidence(frame)
    reinit = evidence.speed().loc[("reinit", 1)]
    assert reinit["reached"] == 0
    assert math.isnan(reinit["ratio"])
    assert "reinit got there in 0 of 5 seeds" in str(evidence.verdict())


# bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="reached"), r"points lack \['reached'\]"),
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
    for margin in (0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="margin="):
            Evidence(frame, margin=margin)
    for level in (0, 0.5, 1):
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
    assert Evidence(points(GAINS)).margin == 0.01


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
    found = points(GAINS, {"reinit": CONTROLS["reinit"]})
    assert Evidence(found).verdict().winning
    partial = Evidence(found, planned=["reinit", "random"])
    assert not partial.verdict().winning
    assert partial.missing == ["random: seeds 0, 1, 2, 3, 4"]
    assert "random" in str(partial.verdict())
    assert not partial.table()["random wins"].any()
