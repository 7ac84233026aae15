"""The curves of every figure that shows a training, each defined once.

`figures/curves.py` prints them with matplotlib, `page/charts.py` draws them with Plotly. A plot
has panels, a panel has series, and a series has one curve for the training set and one for the
test set. Nothing here imports matplotlib or pandas: Snakemake reads this at every start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

INK = "#222222"

# From Okabe & Ito's palette, which stays readable with the common colour-vision deficiencies.
BLUE, SKY, VERMILION, ORANGE = "#0072B2", "#56B4E9", "#D55E00", "#E69F00"
GREEN, PURPLE = "#009E73", "#CC79A7"


class Pair(NamedTuple):
    """Colours of a series; the line tells the split apart as well: train is solid."""

    train: str
    test: str


AEVB = Pair(BLUE, SKY)
WAKE_SLEEP = Pair(VERMILION, ORANGE)
MCEM = Pair("#00664B", "#2FC49A")
NOTEBOOK = Pair("#8C3B6B", PURPLE)
ADAGRAD = Pair("#555555", "#A0A0A0")

# What the curves are called that are ours, smoothed as the report smooths its own.
SMOOTHED = "ours, smoothed"

# The models that sections 4.1 to 4.4 of the report compare: run -> what it is called.
VAES = {
    "vae": "VAE",
    "bvae_beta2": "BVAE, β = 2",
    "bvae_beta5": "BVAE, β = 5",
    "cvae_onehot": "CVAE",
}
VQVAES = {"vqvae": "VQ-VAE"}
MODELS = VAES | VQVAES
# What tells apart runs that share a name in the report. Its text gives the BVAE another beta than
# its numbers do.
MODEL_NOTES = {
    "bvae_beta2": "implied by the report's numbers",
    "bvae_beta5": "stated in the report's text",
    "cvae_onehot": "one-hot label",
}


@dataclass(frozen=True)
class Series:
    """A quantity of one run during training, on the training set and on the test set.

    Attributes:
        run: name of the run.
        column: a column of history.csv without its split, or, with `estimated`, an estimator of
            log p(x) in likelihood.csv.
        label: what the legend calls it, without the split.
        colours: of the two curves.
        sign: -1 where the plot shows the negative of the column.
        estimated: whether the values are estimates of log p(x) from likelihood.csv.
        optional: whether the run is a baseline or an extra, drawn where it was trained.
        rate: learning rate, where several series differ in it alone; the printed plot shows the
            best of them.
        reported: the quantity that was read off the report's curve of this run; empty for none.
        report_colour: colour of the report's points.
        legend: label in the printed plot, where all panels share one legend.
    """

    run: str
    column: str
    label: str
    colours: Pair
    sign: int = 1
    estimated: bool = False
    optional: bool = False
    rate: str = ""
    reported: str = ""
    report_colour: str = INK
    legend: str = ""

    @property
    def name(self) -> str:
        """Label and learning rate."""
        return f"{self.label} {self.rate}".strip()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above the panel.
        unit: label of the vertical axis.
        series: what is drawn.
        values: the report's range of the vertical axis.
        log: whether the vertical axis is logarithmic.
        note: a remark inside of the panel.
    """

    title: str
    unit: str
    series: tuple[Series, ...]
    values: tuple[float, float]
    log: bool = False
    note: str = ""

    def frame(self, ends: Iterable[float]) -> tuple[float, float]:
        """The report's range of the vertical axis, extended to where curves of ours end.

        So what is far off at the start of a training squeezes nothing.
        """
        low, high = self.values
        if self.log:
            return low, high
        ends = list(ends)
        margin = 0.04 * (high - low)
        if min(ends) < low:
            low = min(ends) - margin
        if max(ends) > high:
            high = max(ends) + margin
        return low, high


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        panels: from left to right, row by row.
        samples: the report's range of the horizontal axis, training samples seen.
        linear: whether that axis is linear in the report.
    """

    panels: tuple[Panel, ...]
    samples: tuple[float, float]
    linear: bool = False

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the runs, each once."""
        return tuple(dict.fromkeys(s.run for panel in self.panels for s in panel.series))

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of the runs for which points were read off the report's curves."""
        series = (s for panel in self.panels for s in panel.series)
        return tuple(dict.fromkeys(s.run for s in series if s.reported))


def _elbo(run: str, label: str = "AEVB") -> tuple[Series, ...]:
    """A run's ELBO, and that of wake-sleep on the same network."""
    return (
        Series(run, "neg_elbo", label, AEVB, sign=-1, reported="elbo"),
        Series(f"wakesleep_{run}", "neg_elbo", "wake-sleep", WAKE_SLEEP, sign=-1, optional=True),
    )


def _adagrad(d: int) -> tuple[Series, ...]:
    """Frey Face with Adagrad at the learning rates that Kingma & Welling tried."""
    return tuple(
        Series(
            f"frey_adagrad{rate.replace('0.', '0')}_d{d}",
            "neg_elbo",
            "AEVB, Adagrad",
            ADAGRAD,
            sign=-1,
            optional=True,
            rate=rate,
        )
        for rate in ("0.01", "0.02", "0.1")
    )


def _likelihood(images: int) -> tuple[Series, ...]:
    """Estimates of log p(x) for the models trained on so many images."""
    run = f"ml_n{images}"

    def importance(run: str, label: str, colours: Pair, optional: bool = True) -> Series:
        text = f"{label}, importance sampling"
        return Series(run, "importance", text, colours, estimated=True, optional=optional)

    series = [
        importance(run, "AEVB", AEVB, optional=False),
        Series(
            run,
            "notebook",
            "AEVB, report's notebook",
            NOTEBOOK,
            estimated=True,
            reported="log_likelihood",
            report_colour=NOTEBOOK.train,
        ),
    ]
    # The extra learning rate and MCEM, which is slow, are tried on the smaller set alone.
    if images == 1000:
        series.append(importance(f"{run}_lr002", "AEVB, rate 0.02", ADAGRAD))
    series.append(importance(f"wakesleep_n{images}", "wake-sleep", WAKE_SLEEP))
    if images == 1000:
        series.append(importance(f"mcem_n{images}", "MCEM", MCEM))
    return tuple(series)


def _by_beta(quantity: str) -> tuple[Series, ...]:
    colours = {1: VERMILION, 2: GREEN, 5: BLUE, 50: PURPLE}
    return tuple(
        Series(
            f"beta{beta}",
            quantity,
            f"β = {beta}",
            Pair(colour, colour),
            reported=quantity,
            report_colour=colour,
        )
        for beta, colour in colours.items()
    )


# The objective and its two parts as Figure 14 shows them: columns of history.csv with their labels,
# the unit, the end of the report's vertical axis. The VQ-VAE's are of its own objective.
OBJECTIVE = {"objective": "objective, with β"}
VAE_LOSSES = (OBJECTIVE | {"recon": "recon", "kl": "KL"}, "nats per image", 230)
VQVAE_LOSSES = (
    OBJECTIVE | {"mse": "squared error", "embedding": "embedding loss"},
    "mean squared error",
    0.045,
)


def _losses(run: str, title: str, columns: Mapping[str, str], unit: str, top: float) -> Panel:
    """A model's panel of Figure 14."""
    legends = ("objective, with β", "recon (VQ-VAE: squared error)", "KL (VQ-VAE: embedding loss)")
    series = tuple(
        Series(
            run,
            column,
            label,
            Pair(colour, colour),
            reported=column,
            report_colour=colour,
            legend=legend,
        )
        for (column, label), legend, colour in zip(
            columns.items(), legends, (INK, BLUE, VERMILION), strict=True
        )
    )
    return Panel(title, unit, series, (0, top), note=MODEL_NOTES.get(run, ""))


ELBO = "ELBO, nats per image"

PLOTS = {
    # The report cuts its 1.2e8 samples at 1e8.
    "figure_01": Plot(
        tuple(
            Panel(f"d = {d}", ELBO, _elbo(f"mnist_d{d}"), (-150, -100)) for d in (3, 5, 10, 20, 200)
        ),
        samples=(1e5, 1e8),
    ),
    "figure_02": Plot(
        tuple(
            Panel(f"d = {d}", ELBO, (*_elbo(f"frey_d{d}", "AEVB, Adam"), *_adagrad(d)), (0, 1600))
            for d in (2, 5, 10, 20)
        ),
        samples=(1e3, 1.7e6),
    ),
    "figure_03": Plot(
        tuple(
            Panel(title, "log p(x), nats per image", _likelihood(images), values)
            for images, title, values in (
                (1000, "N = 1000", (-200, -100)),
                (50_000, "N = 50\N{NO-BREAK SPACE}000", (-160, -130)),
            )
        ),
        samples=(1e5, 6e7),
        linear=True,
    ),
    "figure_06": Plot(
        (
            Panel("KL", "KL, nats per image", _by_beta("kl"), (1e-5, 60), log=True),
            Panel("Reconstruction loss", "recon, nats per image", _by_beta("recon"), (68, 216)),
        ),
        samples=(6e4, 1.6e8),
    ),
    "figure_14": Plot(
        tuple(
            _losses(run, title, *own)
            for models, own in ((VAES, VAE_LOSSES), (VQVAES, VQVAE_LOSSES))
            for run, title in models.items()
        ),
        samples=(6e4, 1.6e8),
    ),
}
