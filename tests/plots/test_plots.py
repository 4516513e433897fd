"""Plots: what is drawn, read back from the axes."""

import math
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb

from lottery import Masks, plots
from lottery.foundations.statistics.intervals import mean_interval
from lottery.plots.density_axis import density_ticks, plain
from lottery.plots.panels import pixels_across, shortened
from lottery.plots.pixels import as_pixels, block_means, fold, tiles
from lottery.plots.style import ACCENT, line_style

mpl.use("Agg")

finite = st.floats(-1e6, 1e6)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No warning, no changed setting, and all figures can be closed."""
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # what old releases of matplotlib call themselves
        warnings.filterwarnings("ignore", ".*deprecated", module="matplotlib")
        yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def drawn(axes_or_figure):
    """The figure, after matplotlib has laid it out."""
    figure = axes_or_figure.figure
    figure.canvas.draw()
    return figure


def random_mask(*shape, density=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) < density


def lenet(density=0.3):
    shapes = {"hidden.weight": (30, 64), "output.weight": (10, 30)}
    return Masks({n: random_mask(*s, density=density) for n, s in shapes.items()})


def run_points(arm="ticket", run="0", rounds=4, gain=0.01, start=0.9, name="test_acc"):
    return pd.DataFrame(
        {
            "arm": arm,
            "run": run,
            "round": range(rounds),
            "density": [0.8**r for r in range(rounds)],
            name: [start + gain * r for r in range(rounds)],
        }
    )


def labelled(ax):
    return dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# The density axis


@given(st.floats(-6, 3), st.floats(0.02, 6), st.floats(2, 80))
def test_ticks_of_density_lie_on_the_axis_and_never_touch(exponent, span, length):
    low, high = 10**exponent, 10 ** (exponent + span)
    ticks = density_ticks(low, high, length, lambda label: len(label) + 1)
    places = [math.log(t / low) / math.log(high / low) * length for t in ticks]
    for i in range(len(ticks) - 1):
        wide = (len(plain(ticks[i])) + len(plain(ticks[i + 1]))) / 2 + 1
        assert places[i + 1] - places[i] >= wide - 1e-6
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in ticks)
    assert len(ticks) <= 12


@given(st.floats(-6, 1.9))
def test_an_axis_of_usual_length_has_at_least_two_ticks(exponent):
    assert len(density_ticks(10**exponent, 104, 40, lambda label: len(label))) >= 2


@given(st.floats(1e-12, 1e12))
def test_ticks_are_never_in_scientific_notation(value):
    assert set(plain(value)) <= set("0123456789.")
    assert float(plain(value)) == pytest.approx(value, rel=1e-5)


def test_density_falls_to_the_right_in_percent():
    ax = plots.against_density(run_points(rounds=13), value="test_acc").axes[0]
    drawn(ax)
    assert ax.get_xscale() == "log"
    left, right = ax.get_xlim()
    assert left > 100 > right
    assert tick_labels(ax.xaxis) == ["10", "20", "50", "100"]
    assert "%" in ax.get_xlabel()


def test_two_calls_on_the_same_axes_leave_density_falling_to_the_right():
    ax = plots.against_density(run_points(), value="test_acc").axes[0]
    assert plots.against_density(run_points(arm="b"), value="test_acc", ax=ax).axes == [ax]
    assert ax.get_xlim()[0] > ax.get_xlim()[1]


# against_density


def test_an_arm_is_the_mean_of_its_runs_matched_by_round_with_its_interval():
    one, two = run_points(run="0"), run_points(run="1", gain=0.02)
    two["density"] *= 0.5  # another grid
    two = two[two["round"] != 3]
    ax = plots.against_density(pd.concat([one, two]), value="test_acc").axes[0]
    line, _, (bars,) = ax.containers[0]
    assert line.get_xdata() == pytest.approx([75, 60, 48, 51.2])  # round 3: of one run only
    assert line.get_ydata() == pytest.approx([90, 91.5, 93, 93])
    low, high = bars.get_segments()[1][:, 1]
    assert (low, high) == pytest.approx([100 * v for v in mean_interval([0.91, 0.92])[1:]])
    assert not len(bars.get_segments()[3]) or np.isnan(bars.get_segments()[3]).any()
    assert ax.get_legend().get_title().get_text() == "mean of 2 runs, 95 % interval"


def test_a_single_run_is_a_thin_line_without_bars_and_several_a_thicker_one():
    several = pd.concat([run_points(run=r) for r in "01"])
    ax = plots.against_density(pd.concat([several, run_points(arm="single")]), value="test_acc").axes[0]
    many, single = (container[0] for container in ax.containers)
    assert single.get_linewidth() < many.get_linewidth()
    assert not ax.containers[1].has_yerr
    assert single.get_color() != many.get_color()


def test_the_dense_networks_of_the_first_arm_are_a_band():
    points = pd.concat([run_points(run=str(r), start=0.9 + r / 100) for r in range(3)])
    other = run_points(arm="other", start=0.1)
    ax = plots.against_density(pd.concat([points, other]), value="test_acc").axes[0]
    box = labelled(ax)["dense"].get_path().get_extents(labelled(ax)["dense"].get_transform() - ax.transData)
    _, low, high = mean_interval([90, 91, 92])
    assert (box.y0, box.y1) == pytest.approx((low, high))


def test_a_single_dense_network_is_a_line():
    ax = plots.against_density(run_points(), value="test_acc").axes[0]
    assert list(labelled(ax)["dense"].get_ydata()) == pytest.approx([90, 90])


def test_round_0_of_a_ticket_is_not_called_dense():
    points = run_points()
    points["density"] /= 2
    assert "dense" not in labelled(plots.against_density(points, value="test_acc").axes[0])


def test_rows_without_a_value_are_skipped():
    points = run_points()
    points.loc[1, "test_acc"] = math.nan
    ax = plots.against_density(points, value="test_acc").axes[0]
    assert ax.containers[0][0].get_xdata() == pytest.approx([100, 64, 51.2])


@pytest.mark.parametrize(
    ("name", "start", "shown", "label"),
    [("val_acc", 0.5, 50, "val_acc [%]"), ("val_accuracy", 50, 50, "val_accuracy"), ("val_loss", 0.5, 0.5, "val_loss")],
)
def test_only_accuracies_that_are_shares_are_drawn_in_percent(name, start, shown, label):
    ax = plots.against_density(run_points(start=start, name=name), value=name).axes[0]
    assert ax.containers[0][0].get_ydata()[0] == pytest.approx(shown)
    assert ax.get_ylabel() == label


def test_early_stopping_is_the_step_of_the_best_validation():
    ax = plots.early_stop(run_points(start=900, gain=-100, name="best_step")).axes[0]
    assert ax.containers[0][0].get_ydata() == pytest.approx([900, 800, 700, 600])
    assert ax.get_ylabel() == "step of best validation [optimizer steps]"


def test_the_first_24_arms_look_different():
    assert len({tuple(line_style(i).values()) for i in range(24)}) == 24


def test_what_cannot_be_drawn_is_named():
    points = run_points()
    with pytest.raises(ValueError, match="no column 'val_loss'; the columns are arm"):
        plots.against_density(points, value="val_loss")
    with pytest.raises(ValueError, match="no row has a value of 'test_acc'"):
        plots.against_density(points.assign(test_acc=math.nan), value="test_acc")
    with pytest.raises(ValueError, match="by='time': write 'step' or 'epoch'"):
        plots.learning_curves(history(), metric="val_loss", by="time")


# learning_curves


def history(rounds=3):
    return pd.DataFrame(
        [(r, 0.8**r, step, step // 10, 1.0 / (step + r), math.nan) for r in range(rounds) for step in (20, 10, 30)],
        columns=["round", "density", "step", "epoch", "val_loss", "val_acc"],
    )


def test_learning_curves_have_a_line_per_round_dark_and_thick_where_dense():
    ax = plots.learning_curves(history(), metric="val_loss").axes[0]
    sparse_first = ax.lines
    assert [line.get_ydata()[0] for line in sparse_first] == [1 / 12, 1 / 11, 1 / 10]
    assert list(ax.lines[0].get_xdata()) == [10, 20, 30]
    brightness = [sum(to_rgb(line.get_color())) for line in sparse_first]
    assert brightness == sorted(brightness, reverse=True)
    widths = [line.get_linewidth() for line in sparse_first]
    assert widths[2] > widths[0] == widths[1]
    figure = drawn(ax)
    assert tick_labels(figure.axes[1].yaxis) == ["65", "70", "75", "80", "85", "90", "95", "100"]


def test_learning_curves_skip_rows_without_the_metric_and_can_go_by_epoch():
    rows = history()
    rows.loc[rows["step"] == 20, "val_acc"] = 0.5
    ax = plots.learning_curves(rows, metric="val_acc", by="epoch").axes[0]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in ax.lines] == [(2, 50)] * 3
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "val_acc [%]")


def test_the_curve_of_one_round_has_no_color_bar():
    assert len(plots.learning_curves(history(1), metric="val_loss").figure.axes) == 1


# layers


def test_bars_show_each_layer_and_a_line_the_whole():
    ax = plots.layer_bars({"a": 0.25, "b": 1.0}, 0.4).axes[0]
    assert [bar.get_width() for bar in ax.patches] == [25, 100]
    assert tick_labels(ax.yaxis) == ["a", "b"]
    assert labelled(ax)["all: 40 %"].get_xdata()[0] == 40


def test_layers_over_rounds_are_lines_and_an_emptied_one_is_marked():
    frame = pd.DataFrame({"a": [1, 0.5, 0.1], "b": [1, 0.5, 0], "all": [1, 0.5, 0.05]})
    lines = labelled(plots.layer_densities(frame).axes[0])
    assert list(lines["a"].get_ydata()) == pytest.approx([100, 50, 10])
    assert np.isnan(lines["b"].get_ydata()[2])
    assert list(lines["b: no weight kept"].get_xdata()) == [2]
    assert lines["all"].get_color() == "black"
    drawn(lines["a"].axes)


def test_more_than_8_layers_over_rounds_are_a_heat_map():
    frame = pd.DataFrame({f"layer.{i}": [1.0, 0.1 * i] for i in range(9)})
    ax = plots.layer_densities(frame).axes[0]
    (mesh,) = ax.collections
    shown = np.ma.getdata(mesh.get_array()).reshape(9, 2)
    assert shown == pytest.approx(100 * frame.to_numpy().T)
    assert np.ma.getmask(mesh.get_array()).sum() == 1  # the emptied one
    assert ax.get_title() == "orange: no weight kept"
    drawn(ax)


@given(st.lists(st.text("ab.", max_size=30), min_size=1), st.integers(3, 20))
def test_shortened_names_are_short_and_short_names_stay(names, most):
    short = shortened(names, most)
    assert len(short) == len(names)
    assert all(len(name) <= most for name in short)
    if all(len(name) <= most for name in names):
        assert short == names


# histograms


def test_weight_histograms_count_the_living_and_the_survivors():
    trained = {n: torch.randn(m.shape) for n, m in lenet().items()}
    before = lenet()
    after = Masks({n: m & (trained[n] > 0.5) for n, m in before.items()})
    figure = plots.weight_distributions(trained, before, after)
    for ax, name in zip(figure.axes, before, strict=True):
        alive, survive = (sum(b.get_height() for b in c) for c in ax.containers)
        assert (alive, survive) == (before[name].sum(), after[name].sum())
        places = [[bar.get_x() for bar in c] for c in ax.containers]
        assert places[0] == places[1]
        assert ax.get_yscale() == "log"
        assert f"{survive:.0f} of {alive:.0f} survive" in ax.get_title()
    drawn(figure)


def test_weights_that_are_not_finite_are_counted_in_the_title():
    ones = Masks({"w": torch.ones(2, 2, dtype=torch.bool)})
    trained = {"w": torch.tensor([[math.nan, math.inf], [1.0, 2.0]])}
    (ax,) = plots.weight_distributions(trained, ones, ones).axes
    assert "2 are not finite" in ax.get_title()


def test_6_parameters_have_histograms_evenly_by_depth_and_the_title_says_so():
    masks = Masks({f"w{i}": random_mask(3, 2 + i) for i in range(11)})
    for picture in (plots.weight_distributions(masks, masks, masks), plots.fans(masks)):
        names = list(dict.fromkeys(a.get_title().split("\n")[0] for a in picture.axes))
        assert names == [f"w{i}" for i in range(0, 11, 2)]
        assert "6 of 11 parameters, evenly by depth" in picture.figure.texts[0].get_text()


def test_masks_of_another_network_are_refused():
    other = Masks({"other": random_mask(2, 2)})
    with pytest.raises(ValueError, match="other: not in the module"):
        plots.weight_distributions(lenet(), other, other)


@given(st.integers(1, 5), st.integers(1, 90), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=15)
def test_fans_count_every_unit_and_show_the_dead_in_a_colour_of_their_own(outputs, inputs, kernel, seed):
    mask = random_mask(outputs, inputs, kernel, seed=seed)
    figure = plots.fans(Masks({"conv.weight": mask}))
    for ax, kept in zip(figure.axes, (mask.sum((1, 2)), mask.sum((0, 2))), strict=True):
        assert sum(bar.get_height() for bar in ax.patches) == len(kept)
        dead, *others = ax.patches
        assert dead.get_height() == (kept == 0).sum()
        assert to_hex(dead.get_facecolor()) == ACCENT.lower()
        for bar in others:
            right = bar.get_x() + bar.get_width()
            low, high = sorted((bar.get_x(), right))
            inside = (kept > low) & (kept < high)
            assert bar.get_height() == inside.sum()
            assert to_hex(bar.get_facecolor()) != ACCENT.lower()
    mpl.pyplot.close(figure.figure)


@pytest.mark.parametrize(
    "draw",
    [
        plots.fans,
        plots.mask_images,
        lambda masks, **to: plots.unit_images(masks["hidden.weight"], **to),
        lambda masks, **to: plots.deaths({name: mask.long() for name, mask in masks.items()}, 1, **to),
        lambda masks, **to: plots.weight_distributions(masks, masks, masks, **to),
    ],
)
def test_several_panels_take_the_place_of_the_axes_that_are_given(draw):
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")
    picture = draw(lenet(), ax=right)
    assert picture.figure is figure and all(panel.figure.figure is figure for panel in picture.axes)
    figure.canvas.draw()
    assert all(panel.get_window_extent().x0 > left.get_window_extent().x1 for panel in picture.axes)
    assert right not in figure.axes and len(picture.axes) >= 2
    alone = figure.add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="put into its figure by hand"):
        draw(lenet(), ax=alone)
    plt.close(figure)


# pixels


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_block_means_are_means_of_blocks_and_lose_no_weight(rows, columns, most, seed):
    matrix = random_mask(rows, columns, seed=seed).numpy()
    means, (high, wide) = block_means(matrix, most)
    assert means.shape == (-(-rows // high), -(-columns // wide))
    assert max(means.shape) <= most
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            block = matrix[i * high : (i + 1) * high, j * wide : (j + 1) * wide]
            assert means[i, j] == pytest.approx(block.mean())


def test_a_matrix_that_is_small_enough_is_shown_as_it_is():
    mask = random_mask(7, 5)
    shown = as_pixels(mask, 7)
    assert shown.image.dtype == bool
    assert np.array_equal(shown.image, mask.numpy())
    assert not shown.note


@given(st.tuples(*[st.integers(1, 4)] * 4), st.data())
def test_each_kernel_is_a_tile_in_the_row_of_its_output(shape, data):
    kernels = np.arange(math.prod(shape)).reshape(shape)
    o, i = (data.draw(st.integers(0, n - 1)) for n in shape[:2])
    h, w = shape[2:]
    tile = tiles(kernels)[o * h : (o + 1) * h, i * w : (i + 1) * w]
    assert np.array_equal(tile, kernels[o, i])


@pytest.mark.parametrize(
    ("shape", "size", "note"),
    [
        ((40,), (1, 40), ""),
        ((6, 5, 1, 1), (6, 5), ""),
        ((4, 3, 5), (4, 15), ""),
        ((16, 3, 7, 7), (112, 21), ""),
        ((64, 3, 7, 7), (64, 3), "means of kernels"),
        ((20, 17, 3, 3, 3), (20, 17), "means of kernels"),
        ((200, 17, 3, 3), (200, 17), "means of 2×1 kernels of 9 weights"),
        ((900, 10), (900, 10), "means of 9×1 weights"),
    ],
)
def test_parameters_of_any_dimension_are_pictures(shape, size, note):
    shown = as_pixels(random_mask(*shape), 100)
    assert (shown.size, shown.note) == (size, note)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_folding_keeps_every_input_in_its_place(units, channels, height, width):
    images = torch.arange(units * channels * height * width)
    images = images.reshape(units, channels, height, width)
    assert torch.equal(fold(images.flatten(1), (channels, height, width)), images)
    if channels == 1:
        assert torch.equal(fold(images.flatten(1), (height, width)), images)


@given(st.integers(2, 40), st.sampled_from([1, 3]))
def test_squares_are_guessed(side, channels):
    folded = fold(torch.zeros(2, channels * side * side))
    assert folded.shape == (2, channels, side, side)


def test_inputs_that_are_no_image_are_refused_with_what_to_give():
    with pytest.raises(ValueError, match=r"40 inputs.*image_shape=\(1, 40\)"):
        plots.input_image(random_mask(3, 40))
    with pytest.raises(ValueError, match=r"\(5, 5\) does not go with 40 inputs"):
        plots.input_image(random_mask(3, 40), image_shape=(5, 5))
    with pytest.raises(ValueError, match=r"\(8, 1, 3, 3\) is not \(outputs, inputs\)"):
        plots.input_image(random_mask(8, 1, 3, 3))
    drawn(plots.input_image(random_mask(3, 40), image_shape=(1, 40)))


# images


def image_of(ax):
    (image,) = ax.images
    return np.asarray(image.get_array())


def test_each_mask_is_drawn_as_it_is():
    masks = lenet()
    figure = plots.mask_images(masks)
    for ax, (name, mask) in zip(figure.axes, masks.items(), strict=True):
        assert np.array_equal(image_of(ax), mask.numpy())
        shown = ax.images[0].to_rgba(ax.images[0].get_array())[..., 0]
        assert np.array_equal(shown == 0, mask.numpy()) and np.array_equal(shown == 1, ~mask.numpy())  # kept is black
        density = 100 * masks.densities()[name]
        assert f"{density:.3g} % kept" in ax.get_title()
        assert "×".join(map(str, mask.shape)) in ax.get_title()
    drawn(figure)


def test_black_is_the_same_in_every_panel_and_grey_the_share_kept():
    masks = Masks(
        {"fc": random_mask(1000, 600, density=0.1), "out": random_mask(10, 20), "empty": torch.zeros(1000, 9).bool()}
    )
    picture = plots.mask_images(Masks(masks))
    large, small, empty = (ax.images[0] for ax in picture.axes)
    means, _ = block_means(masks["fc"].numpy(), pixels_across(2))
    assert np.array_equal(image_of(picture.axes[0]), means)
    assert "means of 5×3 weights" in picture.axes[0].get_title()
    assert large.norm is small.norm is empty.norm and large.cmap is small.cmap
    greys = large.to_rgba(means)[..., 0]
    order = np.argsort(means, axis=None)
    assert (np.diff(greys.flat[order]) <= 0).all() and greys[means == 0].min(initial=1) == 1
    assert (empty.to_rgba(image_of(picture.axes[2])) == 1).all()
    bar = picture.figure.axes[-1]
    assert bar.get_xlabel() == "share kept [%]"
    drawn(picture)


def test_the_input_can_have_a_panel_of_its_own():
    figure = plots.mask_images(lenet(), image_shape=(8, 8), columns=1)
    kept = lenet()["hidden.weight"].sum(0).reshape(8, 8)
    assert np.array_equal(image_of(figure.axes[0]), kept)
    assert len(drawn(figure).figure.axes) == 3


def test_kept_weights_per_pixel_add_up_outputs_and_channels():
    mask = random_mask(6, 48)
    ax = plots.input_image(mask, image_shape=(3, 4, 4)).axes[0]
    assert np.array_equal(image_of(ax), mask.reshape(6, 3, 4, 4).sum((0, 1)))
    drawn(ax)


def test_units_are_shown_most_kept_first():
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 0]]).bool()
    figure = plots.unit_images(mask, units=2)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["unit 1: 3 kept", "unit 2: 2 kept"]
    assert np.array_equal(image_of(figure.axes[0]), [[1, 1], [0, 1]])
    assert figure.figure.texts[0].get_text() == "2 of 3 units, most kept first"
    with pytest.raises(ValueError, match="units=0"):
        plots.unit_images(mask, units=0)


@pytest.mark.parametrize("draw", [plots.mask_images, plots.fans])
def test_a_ticket_without_weights_is_refused(draw):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(Masks({}))


# deaths


def test_the_dead_are_blue_by_round_and_survivors_orange():
    died = torch.tensor([[0, 1, 2, 3], [3, 3, 0, 1]])
    figure = plots.deaths({"w": died.repeat(1, 10)}, 3)
    image = image_of(figure.axes[0])[:, :4]
    blues = mpl.colormaps["Blues"]
    for colour, round in zip(image.reshape(-1, 3), died.flatten(), strict=True):
        expected = to_rgb(ACCENT) if round == 3 else blues(float(round) / 2)[:3]
        assert tuple(colour) == pytest.approx(expected)
    assert "37.5 % alive" in figure.axes[0].get_title()
    drawn(figure)


def test_a_block_mixes_the_mean_round_of_its_dead_with_its_survivors():
    column = torch.tensor([[0], [2], [4], [4]])  # of 4 rounds: half of them alive
    figure = plots.deaths({"w": column.repeat(480, 3)}, 4)
    blue = mpl.colormaps["Blues"](1 / 3)[:3]  # mean round 1 of 0 to 3
    expected = [(a + b) / 2 for a, b in zip(to_rgb(ACCENT), blue, strict=True)]
    image = image_of(figure.axes[0])
    assert image.reshape(-1, 3) == pytest.approx(np.tile(expected, (480 * 3, 1)))
    assert "means of 4×1 weights" in figure.axes[0].get_title()


def test_deaths_per_pixel_are_means_over_the_first_parameter():
    died = torch.arange(8).reshape(2, 4)
    figure = plots.deaths({"w": died}, 8, image_shape=(2, 2))
    assert np.array_equal(image_of(figure.axes[0]), [[2, 3], [4, 5]])
    assert len(drawn(figure).figure.axes) == 3  # pixels, the parameter, the bar
    with pytest.raises(ValueError, match="does not go with 4 inputs"):
        plots.deaths({"w": died}, 8, image_shape=(3, 3))


def test_deaths_outside_the_rounds_are_refused():
    with pytest.raises(ValueError, match="w: died in rounds 0 to 3"):
        plots.deaths({"w": torch.tensor([[0, 3]])}, 2)


# all of them


def test_plots_lists_what_it_has():
    assert all(callable(getattr(plots, name)) for name in plots.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it has against"):
        plots.nothing()
