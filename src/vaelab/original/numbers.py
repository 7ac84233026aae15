"""Every number that the report prints, and those read off its figures.

The numbers live in `data/*.csv`; this module gives them types. Runs carry the names
of the run table, so that a row of the report meets the run that reproduces it by name.

Signs and units are those of the report's axes: recon, kl and losses are positive nats per
image, ELBO and log-likelihood curves are negative on MNIST and positive on Frey Face. The one
exception is the VQ-VAE, whose losses the report logs divided by the batch size once too
often: they are stored multiplied by that 100, as means per pixel.

All losses of the three tables are training-set numbers: means of the last 100 logged epochs,
each over 100 random training images. The report does not say so; its training curves do.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from vaelab.settings.spec import MODEL_PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from vaelab.search.algorithm import Architecture

# Definition 5.1: what makes a model good.
GOOD_RECON, GOOD_KL = 120.0, 10.0
# Training samples behind a row of Table 1 and of Table 3: 2000 and 1000 epochs of MNIST.
TABLE_1_SAMPLES, TABLE_3_SAMPLES = 120_000_000, 60_000_000
# How far a replica of a row may be off, nats per image: two runs of the report differ by as much.
REPLICA_TOLERANCE = {"recon": 2.0, "kl": 0.4}
MINIMAL_ARCHITECTURE: Architecture = (324, 284, 3)

BENCHMARK_ARCHITECTURE: Architecture = (500, 500, 3)

# Section 4.3: vectors in the VQ-VAE's codebook.
CODEBOOK_SIZE = 10

# The tables print one decimal.
ROUNDING = 0.05

# Standard deviation of recon over images (read off the curves' residual wiggle, 30 to 42
# nats), and what it makes of a table entry, the mean over 10 000 evaluations.
RECON_SD_PER_IMAGE = 33.0
TABLE_EVALUATIONS = 10_000
TABLE_RECON_SE = RECON_SD_PER_IMAGE / TABLE_EVALUATIONS**0.5


def reports_recipe(spec: Mapping[str, Any]) -> bool:
    """Whether a flat specification has the report's recipe; the budget may be another."""
    part = MODEL_PARTS[spec["model"]]
    optimizer = "adam" if spec.get("dataset") == "frey" else part.report_optimizer
    recipe = {"optimizer": optimizer, "init": part.report_init, "schedule": "constant"}
    return all(spec.get(key) == value for key, value in recipe.items())


@dataclass(frozen=True)
class BenchmarkRow:
    """A row of Table 1, "Loss after convergence".

    Attributes:
        model: the report's name of the model.
        run: name of the run that reproduces the printed numbers.
        stated_run: name of the run trained as the text says.
        recon: reconstruction loss, nats per image, training set.
        kl: KL loss, nats per image, training set.
        elbo_loss: the column "ELBO loss": the trained objective, which contains beta.
        minutes: training time on the report's unnamed device.
        stated_beta: the beta that the text gives. For the BVAE it is 5, while the printed
            numbers are those of beta = 2, see `implied_beta`.
        test_recon: test-set recon at the end of the curves, read off (within 0.5 nats).
        test_elbo_loss: test-set objective at the end of the curves, read off.
    """

    model: str
    run: str
    stated_run: str
    recon: float
    kl: float
    elbo_loss: float
    minutes: float
    stated_beta: float
    test_recon: float
    test_elbo_loss: float

    @property
    def neg_elbo(self) -> float:
        """The negative ELBO, recon + kl, whatever beta was trained with."""
        return self.recon + self.kl

    @property
    def test_neg_elbo(self) -> float:
        """The same at the end of the test curves, which show the objective."""
        return self.test_recon + (self.test_elbo_loss - self.test_recon) / self.implied_beta

    @property
    def implied_beta(self) -> float:
        """The beta for which recon + beta kl is the printed objective."""
        return (self.elbo_loss - self.recon) / self.kl

    @property
    def implied_beta_range(self) -> tuple[float, float]:
        """Lowest and highest implied beta if each number is rounded to one decimal."""
        gap = self.elbo_loss - self.recon
        return (
            (gap - 2 * ROUNDING) / (self.kl + ROUNDING),
            (gap + 2 * ROUNDING) / (self.kl - ROUNDING),
        )

    def objective(self, beta: float) -> float:
        """What the column "ELBO loss" would hold for a given beta."""
        return self.recon + beta * self.kl


@dataclass(frozen=True)
class ArchitectureRow:
    """A row of Table 2 or 3: 1000 epochs with beta = 1.

    Attributes:
        architecture: the report's h, hidden widths in encoder order and then the latent
            dimension.
        recon: reconstruction loss, nats per image, training set.
        kl: KL loss, nats per image, training set.
        elbo_loss: the negative ELBO as printed; None in Table 2, which does not print it.
    """

    architecture: Architecture
    recon: float
    kl: float
    elbo_loss: float | None = None

    @property
    def neg_elbo(self) -> float:
        """The negative ELBO, recon + kl."""
        return self.recon + self.kl


def _table(number: int, row: type[Row]) -> tuple[Row, ...]:
    """Text columns as they are, architectures as tuples, everything else as floats."""

    def typed(column: str, cell: str) -> Any:
        if column == "architecture":
            return tuple(map(int, cell.split("-")))
        return cell if column in ("model", "run", "stated_run") else float(cell)

    with (files("vaelab.original") / f"data/table_{number}.csv").open(encoding="utf-8") as stream:
        records = list(csv.DictReader(stream))
    return tuple(row(**{k: typed(k, v) for k, v in record.items()}) for record in records)


Row = TypeVar("Row", BenchmarkRow, ArchitectureRow)
TABLE_1 = _table(1, BenchmarkRow)
TABLE_2, TABLE_3 = _table(2, ArchitectureRow), _table(3, ArchitectureRow)


def architecture_rows() -> dict[Architecture, ArchitectureRow]:
    """Tables 2 and 3 by architecture, 27 in all; [500, 500, 3] stands in both, identically."""
    return {row.architecture: row for row in (*TABLE_2, *TABLE_3)}


@cache
def _frame(name: str) -> pd.DataFrame:
    import pandas as pd

    with (files("vaelab.original") / "data" / name).open(encoding="utf-8") as stream:
        return pd.read_csv(stream)


def _select(name: str, figure: int | None) -> pd.DataFrame:
    frame = _frame(name)
    if figure is not None:
        frame = frame[frame["figure"] == figure]
    text = frame.select_dtypes(exclude="number").columns
    return frame.fillna(dict.fromkeys(text, "")).reset_index(drop=True)


def curves(figure: int | None = None) -> pd.DataFrame:
    """Points read off the curves of Figures 1, 2, 3, 6 and 14, one a row.

    Args:
        figure: number of a figure; without it, all.

    Returns:
        Columns: figure; quantity (elbo, log_likelihood, kl, recon, objective, and for the
        VQ-VAE mse and embedding); series (name of the run); split (train, test, or both where
        one reading stands for the two); samples; value; error (half-width within which it was
        read, in the units of value); bound ("upper" where the true value is at most the one
        given, else empty); note.
    """
    frame = _select("curves.csv", figure)
    relative = frame.pop("error_relative") * frame["value"].abs()
    absolute = frame.pop("error_absolute")
    frame.insert(list(frame.columns).index("value") + 1, "error", absolute.fillna(relative))
    return frame


def features(figure: int | None = None) -> pd.DataFrame:
    """What was read off the figures apart from single points: extremes, plateaus, ranges.

    Args:
        figure: number of a figure; without it, all.

    Returns:
        Columns: figure, quantity, series and split as in `curves`; feature; samples_low and
        samples_high (where along the curve); value; low and high (its range); note. Numbers
        that were not read are NaN.
    """
    return _select("features.csv", figure)
