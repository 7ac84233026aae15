"""The report's fifteen figures, drawn from evaluated runs; no figure needs torch.

To add one: write its function, add an entry to FIGURES, add a caption to workflow/report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from vaelab.original.numbers import MINIMAL_ARCHITECTURE
from vaelab.output.figures import curves, images, latent
from vaelab.output.figures.style import STYLE, save
from vaelab.results.reader import Results
from vaelab.search.algorithm import run_name
from vaelab.util.errors import VaelabError

__all__ = ["FIGURES", "FigureSpec", "draw", "draw_table_3", "save"]


@dataclass(frozen=True)
class FigureSpec:
    """One figure of the report.

    Attributes:
        function: draws it from results.
        title: what it shows, in a few words.
        section: section of the report that it belongs to.
        caption: what to look for, in a sentence or two of plain text.
        runs: names of the runs it always needs.
        baselines: names it also draws where the baselines are trained.
        extras: names it also draws where the extra runs are trained.
        vector: whether it is a plot, which gets an SVG twin.
    """

    function: Callable[[Results], Figure]
    title: str
    section: str
    caption: str
    runs: tuple[str, ...]
    baselines: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    vector: bool = False

    def needs(self, baselines: bool, extras: bool) -> tuple[str, ...]:
        """Names of the runs that the figure needs under the given settings."""
        return self.runs + self.baselines * baselines + self.extras * extras


def draw(number: int, results: Results) -> Figure:
    """Draw one figure in the common style.

    Raises:
        VaelabError: there is no such figure, or something it needs is missing.
    """
    if number not in FIGURES:
        raise VaelabError(f"there is no figure {number}; the report has 1 to {max(FIGURES)}")
    with matplotlib.rc_context(STYLE):
        return FIGURES[number].function(results)


def draw_table_3(results: Results) -> Figure:
    """Draw the images of Table 3: what each architecture reconstructs and generates."""
    with matplotlib.rc_context(STYLE):
        return images.table_3_figure(results)


def _mnist(*dimensions: int) -> tuple[str, ...]:
    return tuple(f"mnist_d{d}" for d in dimensions)


_FREY = tuple(f"frey_d{d}" for d in curves.FREY_DIMENSIONS)
_BETAS = tuple(f"beta{beta}" for beta in images.BETAS)
_BENCHMARKS = tuple(name for _, name in curves.BENCHMARKS)

FIGURES: dict[int, FigureSpec] = {
    1: FigureSpec(
        curves.figure_01,
        "MNIST: ELBO during training",
        "2.1 Training with different latent dimensions",
        "ELBO rises with d up to 20, and the gap between train and test does not grow with d. "
        "The report's axis hides the end of d = 20 and d = 200; the last row shows it.",
        _mnist(*curves.FIGURE_1_DIMENSIONS),
        baselines=tuple(f"wakesleep_{n}" for n in _mnist(*curves.FIGURE_1_DIMENSIONS)),
        vector=True,
    ),
    2: FigureSpec(
        curves.figure_02,
        "Frey Face: ELBO during training",
        "2.1 Training with different latent dimensions",
        "On a small data set the gap between train and test grows with d, unlike on MNIST.",
        _FREY,
        baselines=tuple(f"wakesleep_{name}" for name in _FREY),
        extras=tuple(
            f"frey_adagrad{rate}_d{d}"
            for rate in curves.ADAGRAD_RATES
            for d in curves.FREY_DIMENSIONS
        ),
        vector=True,
    ),
    3: FigureSpec(
        curves.figure_03,
        "Marginal likelihood during training",
        "2.2 Marginal likelihood",
        "With 1000 training images the model overfits, with 50 000 it hardly does. The report's "
        "estimator is biased; importance sampling shows what the same models reach.",
        ("ml_n1000", "ml_n50000"),
        baselines=("wakesleep_n1000", "wakesleep_n50000", "mcem_n1000"),
        extras=("ml_n1000_lr002",),
        vector=True,
    ),
    4: FigureSpec(
        images.figure_04,
        "Reconstructions with different d",
        "2.3 Reconstruction",
        "The larger d, the closer the reconstructions are to the originals.",
        _mnist(*images.DIMENSIONS),
    ),
    5: FigureSpec(
        images.figure_05,
        "Manifolds and samples with different d",
        "2.4 Generation",
        "The report calls the samples of larger d more blurry; look for strokes that are sharp "
        "but form no digit. The Frey Face manifold is Kingma & Welling's, not in the report.",
        (*_mnist(*images.DIMENSIONS), "frey_d2"),
    ),
    6: FigureSpec(
        curves.figure_06,
        "KL and reconstruction loss with different β",
        "3.1 BVAE",
        "The larger β, the smaller KL and the larger recon; with β = 50 the code collapses.",
        _BETAS,
        vector=True,
    ),
    7: FigureSpec(
        images.figure_07,
        "Samples with different β",
        "3.1 BVAE",
        "The report sees samples improve up to β = 5; with β = 50 all are the same average image.",
        _BETAS,
    ),
    8: FigureSpec(
        images.figure_08,
        "Reconstructions with different β",
        "3.1 BVAE",
        "Reconstructions get worse as β grows; with β = 50 all are the same average image.",
        _BETAS,
    ),
    9: FigureSpec(
        images.figure_09,
        "Conditional samples, label as a number",
        "3.2 CVAE",
        "Many samples do not show the digit asked for, but a numerically neighbouring one.",
        ("cvae_scalar",),
    ),
    10: FigureSpec(
        images.figure_10,
        "Conditional samples, one-hot label",
        "3.2 CVAE",
        "Nearly every sample shows the digit asked for.",
        ("cvae_onehot",),
    ),
    11: FigureSpec(
        images.figure_11,
        "Reconstructions of all models",
        "4.1 Reconstruction",
        "The VQ-VAE is closest to the originals, then the CVAE, which is told the label.",
        _BENCHMARKS,
    ),
    12: FigureSpec(
        images.figure_12,
        "Samples of all models",
        "4.2 Generation",
        "The CVAE's samples are the clearest. The VQ-VAE's are an addition: the report has none.",
        _BENCHMARKS,
    ),
    13: FigureSpec(
        latent.figure_13,
        "Two-dimensional latent spaces",
        "4.3 Latent space",
        "Digits form clusters for VAE and BVAE; for the CVAE, which knows the label, they mix.",
        tuple(name for _, name in latent.MODELS),
        vector=True,
    ),
    14: FigureSpec(
        curves.figure_14,
        "Training of all models",
        "4.4 Training process and loss",
        "The report sees no overfitting; compare the train and the test lines at the end.",
        _BENCHMARKS,
        vector=True,
    ),
    15: FigureSpec(
        images.figure_15,
        "The minimal architecture",
        "5.2 Minimal complexity architecture",
        "Compare with Figures 11 and 12: about half the parameters of [500, 500, 3]. Where our "
        "search found another architecture, it is shown below the report's.",
        (run_name(MINIMAL_ARCHITECTURE),),
    ),
}
