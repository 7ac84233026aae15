"""Figures: the values, labels and pixels that reach them, and the captions beside them."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from result_folders import alias, arrays, history, likelihood, losses, write_run, write_runs
from vaelab.original import numbers
from vaelab.output.catalogue import CATALOGUE, figures
from vaelab.output.figures.grids import image_grid
from vaelab.output.figures.style import DIGIT_COLOURS, DIGIT_MARKERS, DPI, save
from vaelab.output.figures.style import draw as draw_function
from vaelab.pipeline.planning import made_by
from vaelab.results.reader import Results, grouped
from vaelab.settings.config import SearchSettings
from vaelab.settings.runs import read_rows
from vaelab.util.errors import VaelabError
from vaelab.util.io import write_csv, write_json, write_npz
from workflow_project import ROOT

PLOTS = (1, 2, 3, 6, 13, 14)
ROWS = {row.run: row for row in read_rows(ROOT / "config/runs.tsv")}


def runs_of(target: str | int, *switched_on: str) -> list[str]:
    """Runs of a figure or table, of those that the settings switch on the given kinds alone."""
    target = f"figure_{target:02d}" if isinstance(target, int) else target
    kinds = {"always", *switched_on}
    return [name for name in CATALOGUE[target].runs if ROWS[name].when in kinds]


def draw(number: int, results: Results) -> Figure:
    """A figure of the catalogue."""
    return draw_function(CATALOGUE[f"figure_{number:02d}"].function, results)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """All runs that figures and Table 3 need without baselines and extras, one seed."""
    names = {name for target in CATALOGUE for name in runs_of(target)}
    return write_runs(tmp_path_factory.mktemp("all") / "quick", sorted(names))


@pytest.fixture(scope="module")
def drawn(made_up: Results) -> dict[int, Figure]:
    """Every figure of `made_up`, drawn once."""
    return {number: draw(number, made_up) for number in range(1, 16)}


def panel(figure: Figure, title: str) -> Axes:
    found = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
    assert len(found) == 1, [axes.get_title(loc="left") for axes in figure.axes]
    return found[0]


def line(axes: Axes, label: str) -> Line2D:
    found = [line for line in axes.lines if line.get_label() == label]
    assert len(found) == 1, [line.get_label() for line in axes.lines]
    return found[0]


def marked(axes: Axes, marker: str) -> dict[float, float]:
    """The report's points of one marker: samples -> value."""
    return {
        x: y
        for line in axes.lines
        if line.get_label() == "_report" and line.get_marker() == marker
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def legend_texts(figure: Figure) -> set[str]:
    return {text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()}


def shown(figure: Figure, title: str) -> np.ndarray:
    """The pixels of one panel of a sheet."""
    image = np.asarray(panel(figure, title).images[0].get_array())
    assert (image == image[:, :, :1]).all()
    return image[:, :, 0]


# Grids


def test_grid_of_100_mnist_images_is_302_pixels_square_with_2_pixel_lines() -> None:
    images = np.arange(100, dtype=np.uint8)[:, None].repeat(784, axis=1) + 1
    grid = image_grid(images, (28, 28), 10)
    assert grid.shape == (302, 302)
    assert grid.dtype == np.uint8
    ruled = np.zeros(302, bool)
    for start in range(0, 302, 30):
        ruled[start : start + 2] = True
    assert not grid[ruled].any()
    assert not grid[:, ruled].any()
    cells = grid[~ruled][:, ~ruled].reshape(10, 28, 10, 28).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(cells.reshape(100, 784), images)


def test_grid_keeps_rows_and_columns_of_images_that_are_not_square() -> None:
    image = np.arange(6, dtype=np.uint8)
    grid = image_grid(np.stack([image, image + 10, image + 20]), (2, 3), 2, padding=1)
    expected = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 2, 0, 10, 11, 12, 0],
        [0, 3, 4, 5, 0, 13, 14, 15, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 20, 21, 22, 0, 0, 0, 0, 0],
        [0, 23, 24, 25, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(grid, expected)


@pytest.mark.parametrize(("number", "title", "factor"), [(8, "β = 5", 2), (10, "c = 7", 3)])
def test_saved_pixels_are_the_grids_pixels(
    drawn: dict[int, Figure], tmp_path: Path, number: int, title: str, factor: int
) -> None:
    figure = drawn[number]
    save(figure, tmp_path / "f.png", with_vector=False)
    page = np.asarray(Image.open(tmp_path / "f.png").convert("L"))
    assert page.shape == tuple(round(inches * DPI) for inches in figure.get_size_inches()[::-1])
    box = panel(figure, title).get_window_extent()
    left, top = round(box.x0), page.shape[0] - round(box.y1)
    if number == 8:
        grid = image_grid(arrays("beta5", "mnist")["reconstructions"], (28, 28), 10)
    else:
        grid = image_grid(arrays("cvae", "mnist")["conditional_samples"][7], (28, 28), 4)
    expected = grid.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = expected.shape
    np.testing.assert_array_equal(page[top : top + height, left : left + width], expected)
    # White paper right around it: the panel is neither shifted nor cut.
    assert (page[top : top + height, [left - 1, left + width]] == 255).all()
    assert (page[[top - 1, top + height], left : left + width] == 255).all()


# The figures, panel for panel


def test_figure_1_draws_elbo_with_the_reports_axes(drawn: dict[int, Figure]) -> None:
    axes = panel(drawn[1], "d = 5")
    name = "mnist_d5"
    train = line(axes, "AEVB, train")
    np.testing.assert_allclose(train.get_xdata(), [100, 10_000, 300_000])
    recon = np.array([150, 125, 100]) + len(name)
    np.testing.assert_allclose(train.get_ydata(), -(recon + [1e-6, 5, 9]))
    np.testing.assert_allclose(
        line(axes, "AEVB, test").get_ydata(), np.asarray(train.get_ydata()) - 3
    )
    assert train.get_linestyle() == "-"
    assert line(axes, "AEVB, test").get_linestyle() == "--"
    assert axes.get_ylim() == (-150, -100)
    assert axes.get_xlim() == (1e4, 1e8)
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "samples seen"
    assert panel(drawn[1], "d = 3").get_ylabel() == "ELBO, nats per image"
    assert marked(axes, "o")[1e7] == -128.1
    assert marked(axes, "s")[9.5e7] == -120.7


def test_figure_1_shows_d_20_and_200_unclipped_and_all_d_together(
    drawn: dict[int, Figure],
) -> None:
    figure = drawn[1]
    titles = ["d = 3", "d = 5", "d = 10", "d = 20", "d = 200", "", "d = 20, unclipped"]
    titles += ["d = 200, unclipped", "all d, test"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    assert panel(figure, "d = 20, unclipped").get_ylim()[1] > numbers.curves(1)["value"].max()
    together = panel(figure, "all d, test")
    assert [line.get_label() for line in together.lines] == [
        f"d = {d}" for d in (3, 5, 10, 20, 200)
    ]
    np.testing.assert_allclose(line(together, "d = 200").get_ydata()[-1], -(100 + 9 + 9 + 3 + 1))


def test_figure_1_extends_the_axis_to_where_our_curves_end(
    made_up: Results, tmp_path: Path
) -> None:
    results = write_runs(tmp_path / "quick", runs_of(1))
    end = {"neg_elbo": [600.0, 170.0], "recon": [0, 0], "kl": [0, 0], "objective": [0, 0]}
    late = history([100, 300_000], end, end)
    write_csv(tmp_path / "quick/runs/mnist_d3-s0/history.csv", late)
    low, high = panel(draw(1, results), "d = 3").get_ylim()
    assert low == -172
    assert high == -100


def test_figure_2_draws_wake_sleep_and_figure_3_all_baselines(tmp_path: Path) -> None:
    names = [*runs_of(2, "baselines"), *runs_of(3, "baselines")]
    results = write_runs(tmp_path / "quick", names)
    faces = panel(draw(2, results), "Frey Face, d = 5")
    last = line(faces, "wake-sleep, test").get_ydata()[-1]
    np.testing.assert_allclose(last, 1000 - len("wakesleep_frey_d5") - 9 - 3)
    figure = draw(3, results)
    small, large = panel(figure, "N = 1000"), panel(figure, "N = 50\N{NO-BREAK SPACE}000")
    for axes in (small, large):
        values = line(axes, "wake-sleep, importance sampling, test").get_ydata()
        np.testing.assert_allclose(values, -151)
    np.testing.assert_allclose(
        line(small, "MCEM, importance sampling, train").get_ydata(), [-150, -150]
    )
    assert not [one for one in large.lines if one.get_label().startswith("MCEM")]


def test_one_baseline_is_drawn_in_its_panel_alone(tmp_path: Path) -> None:
    names = [*runs_of(1), "wakesleep_mnist_d10"]
    figure = draw(1, write_runs(tmp_path / "quick", names))
    panels = {
        axes.get_title(loc="left")
        for axes in figure.axes
        if any(one.get_label().startswith("wake-sleep") for one in axes.lines)
    }
    assert panels == {"d = 10"}
    values = line(panel(figure, "d = 10"), "wake-sleep, train").get_ydata()
    np.testing.assert_allclose(values[-1], -(109 + len("wakesleep_mnist_d10")))
    assert {"wake-sleep, train", "wake-sleep, test"} <= legend_texts(figure)


def test_absent_baselines_leave_no_trace(drawn: dict[int, Figure]) -> None:
    labels = legend_texts(drawn[1])
    assert labels == {
        "AEVB, train", "AEVB, test", "ours, smoothed",
        "report, train (digitised)", "report, test (digitised)",
        "d = 3", "d = 5", "d = 10", "d = 20", "d = 200",
    }  # fmt: skip


def test_figure_2_takes_the_adagrad_rate_of_the_best_train_elbo(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_runs(folder, runs_of(2, "extras"))
    for rate, recon in (("001", -800.0), ("002", -900.0), ("01", -850.0)):
        write_run(folder, f"frey_adagrad{rate}_d5", train=losses(recon, 10))
    axes = panel(draw(2, results), "Frey Face, d = 5")
    assert "Adagrad at rate 0.02, the best of 3" in [text.get_text() for text in axes.texts]
    best = 1000 - len("frey_adagrad002_d5") - 9
    np.testing.assert_allclose(line(axes, "AEVB, Adagrad, train").get_ydata()[-1], best)
    assert axes.get_ylim() == (0, 1600)
    assert marked(axes, "o") == {1e6: 1139, 1.5e6: 1178}


def test_stand_in_faces_are_named_in_red(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    for name in runs_of(2):
        write_run(folder, name, synthetic=True)
    figure = draw(2, Results(folder, alias(runs_of(2))))
    assert panel(figure, "Synthetic faces, d = 2")
    alarm = [t for t in figure.texts if t.get_text() == "synthetic faces, not Frey Face"]
    red, green, blue = to_rgb(alarm[0].get_color())
    assert red > 0.6 > 0.2 > max(green, blue)


def test_manifold_of_stand_in_faces_is_called_so(tmp_path: Path) -> None:
    for name in runs_of(5):
        write_run(tmp_path / "quick", name, synthetic="frey" in name)
    results = Results(tmp_path / "quick", alias(runs_of(5)))
    assert panel(draw(5, results), "Manifold, synthetic faces, d = 2")


def test_figure_3_keeps_estimators_and_splits_apart(drawn: dict[int, Figure]) -> None:
    axes = panel(drawn[3], "N = 1000")
    for estimator, nats in (("importance sampling", -150), ("report's notebook", -149)):
        np.testing.assert_allclose(line(axes, f"AEVB, {estimator}, train").get_ydata(), nats)
        np.testing.assert_allclose(line(axes, f"AEVB, {estimator}, test").get_ydata(), nats - 1)
    assert axes.get_ylim() == (-200, -100)
    assert panel(drawn[3], "N = 50\N{NO-BREAK SPACE}000").get_ylim() == (-160, -130)
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (1e5, 1e8)
    assert marked(axes, "s")[4e7] == -157.1


def test_figure_3_has_the_reports_linear_axis_for_long_runs(tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    for name in runs_of(3):
        run = write_run(folder, name, samples=60_000_000)
        long = likelihood(name).assign(samples=lambda frame: frame["samples"] * 20)
        write_csv(run / "likelihood.csv", long)
    axes = panel(draw(3, Results(folder, alias(runs_of(3)))), "N = 1000")
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim() == (0, 60_000_000)
    assert axes.get_xlabel() == "samples seen, millions"
    assert axes.xaxis.get_major_formatter()(20_000_000) == "20"


def test_figure_3_names_a_run_without_the_estimator(tmp_path: Path) -> None:
    results = write_runs(tmp_path / "quick", runs_of(3))
    frame = likelihood("ml_n1000")
    path = tmp_path / "quick/runs/ml_n1000-s0/likelihood.csv"
    write_csv(path, frame[frame["estimator"] != "notebook"])
    with pytest.raises(VaelabError, match="likelihood.csv of ml_n1000 has no train values by 'not"):
        draw(3, results)


def test_figure_5_shows_the_manifolds_of_digits_and_faces(drawn: dict[int, Figure]) -> None:
    manifold = shown(drawn[5], "Manifold, MNIST, d = 2")
    assert manifold.shape == (602, 602)
    # Row 0 (the largest z2) is at the top, column 0 (the smallest z1) at the left.
    assert manifold[2, 2] == 0
    assert manifold[2, 32] == 1
    assert manifold[32, 2] == 20
    assert shown(drawn[5], "Manifold, Frey Face, d = 2").shape == (602, 442)


def test_figure_6_has_logarithmic_kl_and_linear_recon(drawn: dict[int, Figure]) -> None:
    kl, recon = panel(drawn[6], "KL"), panel(drawn[6], "Reconstruction loss")
    assert kl.get_yscale() == "log"
    assert recon.get_yscale() == "linear"
    assert kl.get_ylim() == (1e-5, 60)
    np.testing.assert_allclose(line(kl, "β = 5, train").get_ydata(), [1e-6, 5, 9])
    np.testing.assert_allclose(line(recon, "β = 50, test").get_ydata()[-1], 100 + 6 + 3)
    colours = {line(kl, f"β = {beta}, train").get_color() for beta in (1, 2, 5, 50)}
    assert len(colours) == 4
    assert line(kl, "β = 5, test").get_color() == line(recon, "β = 5, train").get_color()
    thin = [x for x in recon.lines if x.get_label() == "_smoothed"]
    assert len(thin) == 8
    assert {x.get_linewidth() for x in thin} == {0.7}
    assert thin[0].get_color() == line(recon, "β = 1, train").get_color()
    # The trailing mean lags behind a curve that falls.
    assert thin[0].get_ydata()[-1] > line(recon, "β = 1, train").get_ydata()[-1]
    # Below the report's axis: a triangle that points down.
    assert marked(kl, "v") == {1.2e8: 1e-5}
    assert marked(recon, "D")[1e7] in (81.7, 94.7, 122, 207)


def test_a_run_too_short_to_be_smoothed_says_so(tmp_path: Path) -> None:
    results = write_runs(tmp_path / "modern", runs_of(6))
    for path in (tmp_path / "modern").rglob("history.csv"):
        frame = pd.read_csv(path)
        frame.assign(samples=frame["samples"] // 6).to_csv(path, index=False)
    figure = draw(6, results)
    assert not any(x.get_label() == "_smoothed" for axes in figure.axes for x in axes.lines)
    assert any("too short to be smoothed" in text for text in texts(figure))


def test_figure_13_draws_every_code_once_in_its_digits_colour(drawn: dict[int, Figure]) -> None:
    axes = panel(drawn[13], "BVAE, β = 2")
    assert axes.get_title(loc="right") == "implied by the report's numbers"
    assert len(axes.collections) == 10
    for digit, points in enumerate(axes.collections):
        np.testing.assert_array_equal(points.get_offsets()[:, 0], np.full(100, digit))
        assert to_hex(points.get_facecolor()[0]).upper() == DIGIT_COLOURS[digit]
        assert points.get_label() == str(digit)
    assert legend_texts(drawn[13]) == set("0123456789")


def test_figure_14_draws_each_models_losses(drawn: dict[int, Figure]) -> None:
    axes = panel(drawn[14], "BVAE, β = 2")
    recon = np.array([150, 125, 100]) + len("bvae_beta2")
    np.testing.assert_allclose(
        line(axes, "objective, with β, train").get_ydata(), recon + 2 * np.array([1e-6, 5, 9])
    )
    np.testing.assert_allclose(line(axes, "KL (VQ-VAE: embedding loss), test").get_ydata()[-1], 12)
    vq = panel(drawn[14], "VQ-VAE")
    np.testing.assert_allclose(
        line(vq, "recon (VQ-VAE: squared error), train").get_ydata(), [0.08, 0.02, 0.006]
    )
    assert marked(vq, "o")[1.2e8] in (0.0204, 0.00536)
    assert marked(panel(drawn[14], "BVAE, β = 5"), "o") == {}


@pytest.mark.parametrize(
    ("number", "array", "title"),
    [
        (4, "random_reconstructions", "d = 10"),
        (4, "random_originals", "Original"),
        (7, "prior_samples", "β = 50"),
        (8, "originals", "Original"),
        (8, "reconstructions", "β = 2"),
        (11, "reconstructions", "VQ-VAE"),
        (11, "originals", "Original"),
        (12, "prior_samples", "CVAE"),
    ],
)
def test_sheets_show_the_right_images(
    drawn: dict[int, Figure], number: int, array: str, title: str
) -> None:
    grid = image_grid(arrays("any", "mnist")[array], (28, 28), 10)
    np.testing.assert_array_equal(shown(drawn[number], title)[::2, ::2], grid)


def test_both_betas_and_additions_are_labelled(drawn: dict[int, Figure]) -> None:
    for number in (11, 12, 13, 14):
        words = texts(drawn[number])
        assert {"BVAE, β = 2", "BVAE, β = 5"} <= set(words)
        assert any("implied by the report's numbers" in word for word in words)
        assert any("stated in the report's text" in word for word in words)
    assert texts(drawn[12]).count("VQ-VAE (addition)") == 2
    assert {"codes drawn from a learned prior", "codes drawn uniformly"} <= set(texts(drawn[12]))


def test_measured_numbers_stand_above_their_panels(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_runs(folder, {*runs_of(8), *runs_of(11)})
    write_run(folder, "beta50", test=losses(206.54, 2.4e-6))
    write_run(folder, "beta1", test=losses(78.25, 24.83))
    write_run(folder, "vqvae", test={"mse": 0.00604, "objective": 0.02, "embedding": 0.015})
    assert "test recon 206.5 nats" in texts(draw(8, results))
    kl = texts(draw(7, results))
    assert "test KL 24.8 nats" in kl
    assert "test KL 2e-06 nats" in kl
    assert "MSE 0.0060" in texts(draw(11, results))


def decisions(architecture: list[int] | None, finished: bool = True) -> dict[str, object]:
    answer = {"finished": finished} | ({"architecture": architecture} if finished else {})
    return {"answer": answer, "probes": [], "settings": SearchSettings().model_dump()}


def test_figure_15_shows_the_reports_answer_beside_ours(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    write_runs(folder, ["arch_324_284_3"])
    # A probe of our search is not a row of the run table, so no alias names it.
    write_run(folder, "arch_360_250_3", parameters=1_000_000)
    write_json(folder / "search/decisions.json", decisions([360, 250, 3]))
    results = Results(folder, alias(["arch_324_284_3"]))
    words = texts(draw(15, results))
    space = "\N{NO-BREAK SPACE}"
    assert f"[324, 284, 3], the report's, 1{space}043{space}266 parameters" in words
    assert f"[360, 250, 3], our search's, 1{space}000{space}000 parameters" in words
    assert words.count("generation") == 2
    assert not any("to within" in word for word in words)
    coarse = decisions([360, 250, 3]) | {"settings": SearchSettings(resolution=64).model_dump()}
    write_json(folder / "search/decisions.json", coarse)
    words = texts(draw(15, Results(folder, results.alias)))
    assert any(word.endswith("our search settled widths to within 64") for word in words)


@pytest.mark.parametrize(
    ("found", "note"),
    [
        (decisions([324, 284, 3]), "our search found the same architecture"),
        (decisions(None), "our search found no good architecture"),
        (decisions(None, finished=False), "our search has not ended"),
        (None, "our search has not ended"),
    ],
)
def test_figure_15_without_another_answer(
    tmp_path: Path, found: dict[str, object] | None, note: str
) -> None:
    results = write_runs(tmp_path / "quick", ["arch_324_284_3"])
    if found is not None:
        write_json(tmp_path / "quick/search/decisions.json", found)
    words = texts(draw(15, results))
    assert words.count("generation") == 1
    assert any(word.endswith(note) for word in words)


def test_table_3_pictures_every_row(made_up: Results) -> None:
    figure = draw_function(CATALOGUE["table_3"].picture_function, made_up)
    rows = [str(list(row.architecture)) for row in numbers.TABLE_3]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titles if title] == [*rows, "Original"]
    assert texts(figure).count("samples") == 11
    assert shown(figure, "[500, 500, 5]").shape == (302, 302)


# What all figures share


@pytest.mark.slow
def test_nothing_is_cut_off_and_no_words_overlap(drawn: dict[int, Figure]) -> None:
    for number, figure in drawn.items():
        figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in words(figure)]
        assert len(boxes) >= 4
        for what, box in [*boxes, *(("a panel", axes.get_tightbbox()) for axes in figure.axes)]:
            inside = box.x0 >= 0 and box.y0 >= 0
            inside = inside and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
            assert inside, f"figure {number}: {what!r} is cut off"
        for (first, a), (second, b) in itertools.combinations(boxes, 2):
            width = min(a.x1, b.x1) - max(a.x0, b.x0)
            height = min(a.y1, b.y1) - max(a.y0, b.y0)
            # Boxes hold room for descenders that the words may lack.
            assert min(width, height) < 4, f"figure {number}: {first!r} overlaps {second!r}"


def words(figure: Figure) -> list[Text]:
    """All words except tick labels."""
    found = list(figure.texts)
    for axes in figure.axes:
        found += axes.texts
        if axes.axison:
            found += [axes.xaxis.label, axes.yaxis.label]
        found += [child for child in axes.get_children() if isinstance(child, Text)]
    for legend in figure.findobj(Legend):
        found += [*legend.get_texts(), legend.get_title()]
    return [text for text in dict.fromkeys(found) if text.get_text().strip()]


def test_the_same_results_give_the_same_bytes(
    made_up: Results, drawn: dict[int, Figure], tmp_path: Path
) -> None:
    """A plot and its vector twin are drawn again in test_workflow_smoke."""
    for name, figure in (("a.png", drawn[9]), ("b.png", draw(9, made_up))):
        save(figure, tmp_path / name, with_vector=False)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not (tmp_path / "a.svg").exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_plots_and_nothing_else_have_vector_twins() -> None:
    assert tuple(int(item.key) for item in figures() if item.vector) == PLOTS
    assert [item.target for item in figures()] == [f"figure_{n:02d}" for n in range(1, 16)]


def test_footer_says_what_the_figure_rests_on(drawn: dict[int, Figure], tmp_path: Path) -> None:
    quick = texts(drawn[9])
    expected = "preset quick · 1 seed · 300\N{NO-BREAK SPACE}000 samples a run"
    assert f"{expected} · condition: the digit as one number" in quick
    assert not any("meaningless" in text for text in quick)
    smoke = texts(draw(9, write_runs(tmp_path / "smoke", ["cvae_scalar"])))
    assert "smoke preset: numbers are meaningless" in smoke


def test_several_seeds_give_mean_and_band(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_runs(folder, runs_of(6), seeds=(0, 1, 2))
    for seed, value in enumerate((10.0, 20.0, 60.0)):
        parts = {"kl": [value, 1.0], "recon": [100.0, 90.0]}
        frame = history([10_000, 300_000], parts, parts)
        write_csv(folder / f"runs/beta1-s{seed}/history.csv", frame)
    figure = draw(6, results)
    axes = panel(figure, "KL")
    np.testing.assert_allclose(line(axes, "β = 1, train").get_ydata(), [30, 1])
    corners = axes.collections[0].get_paths()[0].vertices[:, 1]
    deviation = np.std([10, 20, 60], ddof=1)
    np.testing.assert_allclose([corners.min(), corners.max()], [1, 30 + deviation])
    assert any("3 seeds" in text and "± 1 sd over seeds" in text for text in texts(figure))


def test_missing_results_are_named(tmp_path: Path) -> None:
    results = write_runs(tmp_path / "quick", runs_of(6))
    gone = tmp_path / "quick/runs/beta5-s0/history.csv"
    gone.unlink()
    with pytest.raises(VaelabError, match="does not exist") as error:
        draw(6, results)
    assert str(gone) in str(error.value)
    with pytest.raises(VaelabError, match="no run of .*quick is named 'mnist_d3'"):
        draw(1, results)
    with pytest.raises(VaelabError, match="no figure or table named 'figure_16'"):
        draw(16, results)


def test_missing_and_broken_arrays_are_named(tmp_path: Path) -> None:
    results = write_runs(tmp_path / "quick", ["vae"])
    path = tmp_path / "quick/runs/vae-s0/arrays.npz"
    assert results.arrays("vae")["originals"].shape == (100, 784)
    with pytest.raises(VaelabError, match=r"vae-s0/arrays.npz has no array 'codebook'"):
        results.arrays("vae")["codebook"]
    whole = path.read_bytes()
    for broken in (b"", b"half a file", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(VaelabError, match=r"vae-s0/arrays.npz is not an archive"):
            Results(tmp_path / "quick", alias(["vae"])).arrays("vae")
    # The list of contents, at the end, is whole; what it lists is not.
    path.write_bytes(whole[:200] + bytes(len(whole) // 2 - 200) + whole[len(whole) // 2 :])
    with pytest.raises(VaelabError, match=r"vae-s0/arrays.npz: array 'originals' is damaged"):
        Results(tmp_path / "quick", alias(["vae"])).arrays("vae")["originals"]


def test_results_resolve_aliases_probes_and_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    for seed in (3, 7):
        write_run(folder, "vae", seed, samples=100_000 * seed)
    write_npz(folder / "runs/vae-s7/arrays.npz", {"originals": np.ones((2, 2))})
    shared = {"vae": ["vae-s3", "vae-s7"], "arch_500_500_3": ["vae-s3", "vae-s7"]}
    results = Results(folder, shared)
    assert results.seeds == (3, 7)
    assert results.preset == "quick"
    assert [run["seed"] for run in results.metrics("arch_500_500_3")] == [3, 7]
    assert results.arrays("vae", 1)["originals"].sum() == 4
    assert results.samples(["vae", "arch_500_500_3"]) == [300_000, 700_000]
    assert results.has("vae")
    assert not results.has("bvae_beta2")
    assert not results.has("arch_2_1")
    write_run(folder, "arch_2_1", 3)
    assert not results.has("arch_2_1")
    write_run(folder, "arch_2_1", 7)
    assert results.has("arch_2_1")
    assert results.decisions is None


def test_samples_are_described_in_words() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert grouped(2000) == "2000"
    assert grouped(1_200_000) == f"1{space}200{space}000"


def test_digits_are_told_apart_by_colour_and_by_marker() -> None:
    assert len(set(DIGIT_MARKERS)) == 10
    # Also without colour vision of red and green: Viénot's reduction to two dimensions.
    deuteranopia = np.array([[0.29, 0.71, 0.0], [0.29, 0.71, 0.0], [-0.02, 0.03, 1.0]])
    colours = np.array([to_rgb(colour) for colour in DIGIT_COLOURS])
    for seen in (colours, np.clip(colours @ deuteranopia.T, 0, 1)):
        distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
        assert min(distances) > 0.08


# Captions of Snakemake's report


def caption(
    name: str, preset: str = "quick", files: tuple[str, ...] = (), runs: tuple[str, ...] = ()
) -> str:
    """A caption as Snakemake renders it, as HTML."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    source = (ROOT / f"workflow/report/{name}.rst").read_text()
    source += "".join(f"\n\n.. _{file}: javascript:show('{file}')\n" for file in files)
    item = CATALOGUE[name]
    params = {
        "title": f"{item.label}: {item.title}",
        "look": item.caption,
        "made": made_by(preset, "0, 1", "300 000"),
        "runs": runs,
    }
    config = {
        "extras": False,
        "search": {"recon": 120.0, "kl": 10.0, "metric": "train"},
        "data": {"frey": {"fallback": "synthetic"}},
    }
    text = environment.from_string(source).render(
        snakemake=SimpleNamespace(params=SimpleNamespace(**params), config=config),
        files=[SimpleNamespace(target=file) for file in files],
    )
    return publish_parts(text, writer="html", settings_overrides={"warning_stream": False})["body"]


@pytest.mark.parametrize("name", CATALOGUE)
def test_captions_say_what_is_shown_and_link_what_is_in_the_report(name: str) -> None:
    html = caption(name)
    assert f"<strong>{CATALOGUE[name].label}: " in html
    assert "Preset quick, seeds 0, 1, 300 000 samples a run." in html
    assert "meaningless" not in html
    assert "See also" not in html
    assert "<cite>" not in html  # single backquotes in place of double ones
    files = [Path(file).name for item in CATALOGUE.values() for file in item.files.values()]
    linked = caption(name, "smoke", tuple(files))
    assert "numbers are meaningless" in linked
    assert 'class="reference external"' in linked
    assert "system-message" not in linked
    assert name.startswith("table") or f">{name}.png<" not in linked


@pytest.mark.parametrize(
    ("name", "run", "text"),
    [
        ("figure_01", "wakesleep_mnist_d10", "Wake-sleep trains the same networks"),
        ("figure_02", "wakesleep_frey_d2", "Wake-sleep trains the same networks"),
        ("figure_03", "wakesleep_n1000", "Wake-sleep and Monte Carlo EM"),
        ("figure_03", "mcem_n1000", "Wake-sleep and Monte Carlo EM"),
        ("table_likelihood", "mcem_n1000", "MCEM trains no encoder"),
    ],
)
def test_captions_speak_of_baselines_where_there_are_some(name: str, run: str, text: str) -> None:
    assert text in caption(name, runs=("ml_n1000", run))
    assert text not in caption(name, runs=("ml_n1000", "mnist_d10", "frey_d2"))
