"""Positions in a training, read from text and written back."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery.foundations.steps import Step

counts = st.integers(0, 10**12)
steps = st.builds(Step, counts, counts)


@given(steps)
def test_a_step_reads_back_from_its_text(step):
    assert Step.parse(str(step)) == step


@given(steps, steps)
def test_two_steps_have_the_same_text_only_if_they_are_equal(one, other):
    assert (str(one) == str(other)) == (one == other)


@given(steps)
def test_a_step_parses_to_itself_and_survives_pickling(step):
    assert Step.parse(step) is step
    assert pickle.loads(pickle.dumps(step)) == step


@given(counts, counts)
def test_epochs_come_before_steps_and_either_may_be_left_out(epochs, iterations):
    assert Step.parse(f"{epochs}ep{iterations}it") == Step(epochs, iterations)
    assert Step.parse(f"{epochs}ep") == Step(epochs, 0)
    assert Step.parse(f"{iterations}it") == Step(0, iterations)


@given(st.text(alphabet="0123456789epitn -.+²٣\n", max_size=12))
def test_text_is_either_a_step_or_an_error_that_quotes_it(text):
    try:
        step = Step.parse(text)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        assert text.isascii() and not set(text) & set(" -.+\n")
        assert Step.parse(str(step)) == step


@pytest.mark.parametrize("text", ["init", "0it", "0ep", "0ep0it", "000it"])
def test_init_is_another_name_for_step_zero(text):
    assert Step.parse(text) == Step()
    assert str(Step.parse(text)) == "init"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "it",
        "ep",
        "-1it",
        "1.5ep",
        "50it2ep",
        "2ep 50it",
        "2EP",
        "1e3it",
        "2epochs",
        "Init",
        "٣it",
        "1ep\n",
        5,
        None,
        2.0,
        True,
    ],
)
def test_anything_else_is_refused_with_the_forms_that_can_be_written(text):
    with pytest.raises(ValueError) as error:
        Step.parse(text)
    assert repr(text) in str(error.value)
    for form in ("init", "500it", "2ep", "2ep50it"):
        assert form in str(error.value)


@pytest.mark.parametrize("arguments", [(-1, 0), (0, -1)])
def test_a_step_before_the_start_cannot_be_made(arguments):
    with pytest.raises(ValueError, match="-1"):
        Step(*arguments)


def test_steps_are_values():
    with pytest.raises(AttributeError):
        Step(1, 2).epochs = 3
    assert len({Step(1, 2), Step(1, 2), Step(2, 1)}) == 2
