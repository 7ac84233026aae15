"""Every figure and table, once: rules, drawing code, page, captions and tests read it.

To add one: write the function that draws it, add an entry here, and write its caption in
workflow/report/<target>.rst. Nothing else needs to know its name. This module imports neither
torch nor matplotlib nor pandas, as Snakemake reads it at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from vaelab.original.numbers import MINIMAL_ARCHITECTURE, TABLE_2, TABLE_3
from vaelab.output.plots import MODELS, PLOTS, VAES
from vaelab.search.algorithm import run_name
from vaelab.util.registry import Registry, extension_of

if TYPE_CHECKING:
    from vaelab.results.reader import Results

# Sections of the report, by the first digit of their number.
SECTIONS = {
    "2": "2 Reimplementation",
    "3": "3 Other models",
    "4": "4 Benchmarks",
    "5": "5 Minimal architecture",
    "6": "6 Appendix",
}


@dataclass(frozen=True)
class Item:
    """A figure or a table.

    Attributes:
        target: name in the workflow: figure_01, table_1, table_likelihood. The function that makes
            it has the same name.
        module: where that function is, below vaelab.output or, in an extension, by its own name.
            It takes `Results` and returns a matplotlib figure or a data frame.
        title: what it shows, in a few words.
        section: section of the report that it belongs to.
        caption: what to look for, in a sentence or two of plain text; below a table, what its
            columns mean.
        runs: names of the runs that it shows, as in config/runs.tsv. Those that the table lacks,
            or that the settings switch off, are left out.
        split: the images that it rests on.
        beside: the figure that a table without a number belongs to.
        vector: whether it is a plot, which gets an SVG twin.
        searched: whether it also shows the search for the minimal architecture.
        pictures: whether a table has pictures, drawn by `<target>_pictures` of figures.images.
        columns: what the results page shows of a table, see `columns.COLUMNS`.
        apart: whether `all` leaves it out, because its runs are trained by name alone.
    """

    target: str
    module: str
    title: str
    section: str
    caption: str
    runs: tuple[str, ...]
    split: Literal["train", "test", "train and test"] = "test"
    beside: str = ""
    vector: bool = False
    searched: bool = False
    pictures: bool = False
    columns: tuple[str, ...] = ()
    apart: bool = False

    @property
    def kind(self) -> str:
        """figure or table."""
        return self.target.partition("_")[0]

    @property
    def key(self) -> str:
        """What its command takes: 1 of figure_01, likelihood of table_likelihood."""
        return self.target.partition("_")[2].lstrip("0")

    @property
    def label(self) -> str:
        """What it is called: Figure 1, Table 1, Companion of Figure 3."""
        return f"Companion of {self.beside}" if self.beside else f"{self.kind} {self.key}".title()

    @property
    def anchor(self) -> str:
        """Where it stands on the results page: figure-1, table-likelihood."""
        return f"{self.kind}-{self.key}"

    @property
    def category(self) -> str:
        """The report's section, without its subsection."""
        return SECTIONS[self.section[0]]

    @property
    def group(self) -> str:
        """Items of one group have the same formats, but for pictures of a table."""
        return self.kind.title() if self.kind == "table" else "Plot" if self.vector else "Picture"

    @property
    def files(self) -> dict[str, str]:
        """Format -> file under results/<preset>."""
        stem = f"{self.kind}s/{self.key if self.beside else self.target}"
        if self.kind == "figure":
            formats = ["png"] + ["svg"] * self.vector
        else:
            formats = ["csv", *["png"] * self.pictures, "md"]
        return {form: f"{stem}.{form}" for form in formats}

    def among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the given run names that the item shows, in the order given."""
        return tuple(name for name in names if name in self.runs)

    @property
    def function(self) -> Callable[[Results], Any]:
        """What makes it; imported now."""
        module = self.module if self.extension else f"vaelab.output.{self.module}"
        made: Callable[[Results], Any] = resolve_name(f"{module}:{self.target}")
        return made

    @property
    def extension(self) -> str | None:
        """The digest of the extension that it is from; None for vaelab's own."""
        return extension_of(CATALOGUE.kind, self.target)

    @property
    def picture_function(self) -> Callable[[Results], Any]:
        """What draws a table's pictures; imported now."""
        return replace(self, module="figures.images", target=f"{self.target}_pictures").function


def compared(*quantities: str) -> tuple[str, ...]:
    """Columns of a table: ours on train and test, the report's, and the difference on train."""
    kinds = ("train", "test", "report", "diff")
    return tuple(f"{kind}_{name}" for name in quantities for kind in kinds)


def figures() -> list[Item]:
    """The figures, in order."""
    return [item for item in CATALOGUE.values() if item.kind == "figure"]


def tables() -> list[Item]:
    """The tables, in order."""
    return [item for item in CATALOGUE.values() if item.kind == "table"]


# Runs that several figures show, with the titles of their panels.
MNIST = {f"mnist_d{d}": f"d = {d}" for d in (2, 5, 10, 20)}
BETAS = {f"beta{beta}": f"β = {beta}" for beta in (1, 2, 5, 50)}
LATENT = {f"{run}_d2": title for run, title in VAES.items()}

# Small networks, and [500, 3] and [500, 500, 3] at other budgets.
FRONT = tuple(
    f"front_{network}"
    for network in (
        *("300_100_3", "250_150_3", "200_100_3", "150_100_3", "100_100_3", "200_50_3"),
        *("150_50_3", "100_50_3", "75_50_3", "50_50_3", "100_30_3", "50_30_3"),
        *("500_3_x2", "500_3_x4", "500_3_x8", "500_500_3_x2"),
    )
)
RECIPES = tuple(
    f"recipe_{network}_{init}_{optimizer}{bias}"
    for network in ("500_500_3", "500_100_50_10_5")
    for init in ("normal", "default")
    for optimizer in ("adagrad", "adam")
    for bias in ("", "_bias")
)

# Below Tables 1 and 3.
REPLICA = (
    "Δ is ours on the training set minus the report's. Whether it is within ±2 (recon) and ±0.4 "
    "(KL), as it should be for a replica, is said of the report's own recipe alone. "
)

CATALOGUE: Registry[Item] = Registry("figure or table")


def add(item: Item) -> Item:
    """Enter a figure or table under its target."""
    return CATALOGUE.add(item.target, item)


def _curves(target: str, title: str, section: str, caption: str) -> Item:
    """A figure of training curves, which `plots` defines."""
    runs = PLOTS[target].runs
    both: Literal["train and test"] = "train and test"
    return Item(target, "figures.curves", title, section, caption, runs, split=both, vector=True)


for _item in (
    _curves(
        "figure_01",
        "MNIST: ELBO during training",
        "2.1 Training with different latent dimensions",
        "The ELBO rises with d up to 20, and the gap between train and test does not grow with d. "
        "The report's axis hides the end of d = 20 and d = 200; the last row shows it.",
    ),
    _curves(
        "figure_02",
        "Frey Face: ELBO during training",
        "2.1 Training with different latent dimensions",
        "On this small dataset the gap between train and test grows with d, unlike on MNIST.",
    ),
    _curves(
        "figure_03",
        "Marginal likelihood during training",
        "2.2 Marginal likelihood",
        "With 1000 training images the test curve falls far behind the train curve; with 50 000 "
        "it hardly does. The report's estimator is biased; importance sampling shows what the "
        "same models reach.",
    ),
    Item(
        "figure_04",
        "figures.images",
        "Reconstructions with different d",
        "2.3 Reconstruction",
        "The larger d, the closer the reconstructions are to the originals.",
        tuple(MNIST),
    ),
    Item(
        "figure_05",
        "figures.images",
        "Manifolds and samples with different d",
        "2.4 Generation",
        "The report calls the samples of larger d more blurry. Many have sharp strokes but form "
        "no digit. The Frey Face manifold is Kingma & Welling's Figure 4a, not the report's.",
        (*MNIST, "frey_d2"),
    ),
    _curves(
        "figure_06",
        "KL and reconstruction loss with different β",
        "3.1 BVAE",
        "The larger β, the smaller the KL and the larger the reconstruction loss. With β = 50 the "
        "code carries nothing, and the reconstruction loss is that of the average image.",
    ),
    Item(
        "figure_07",
        "figures.images",
        "Samples with different β",
        "3.1 BVAE",
        "The report sees samples improve up to β = 5. With β = 50 all cells show the same average "
        "image.",
        tuple(BETAS),
    ),
    Item(
        "figure_08",
        "figures.images",
        "Reconstructions with different β",
        "3.1 BVAE",
        "Reconstructions get worse as β grows. With β = 50 all cells show the same average image.",
        tuple(BETAS),
    ),
    Item(
        "figure_09",
        "figures.images",
        "Conditional samples, label as a number",
        "3.2 CVAE",
        "Many samples show another digit than the one asked for, mostly a numerical neighbour.",
        ("cvae_scalar",),
    ),
    Item(
        "figure_10",
        "figures.images",
        "Conditional samples, one-hot label",
        "3.2 CVAE",
        "Nearly every sample shows the digit asked for.",
        ("cvae_onehot",),
    ),
    Item(
        "figure_11",
        "figures.images",
        "Reconstructions of all models",
        "4.1 Reconstruction",
        "The VQ-VAE is closest to the originals: its code holds up to 113 nats, the others' about "
        "9. The CVAE, which is told the label, comes next.",
        tuple(MODELS),
    ),
    Item(
        "figure_12",
        "figures.images",
        "Samples of all models",
        "4.2 Generation",
        "The CVAE's samples are the clearest. The VQ-VAE's are an addition: the report has none. "
        "Compare those with a learned prior of the codes and those without.",
        tuple(MODELS),
    ),
    Item(
        "figure_13",
        "figures.latent",
        "Two-dimensional latent spaces",
        "4.3 Latent space",
        "Digits form clusters for VAE and BVAE. For the CVAE they mix, since its z need not tell "
        "the label that it is given.",
        tuple(LATENT),
        split="train",
        vector=True,
    ),
    _curves(
        "figure_14",
        "Training of all models",
        "4.4 Training process and loss",
        "The report sees no overfitting; compare the train and the test lines at the end. In "
        "the report the VQ-VAE's embedding loss rises before it falls.",
    ),
    Item(
        "figure_15",
        "figures.images",
        "The minimal architecture",
        "5.2 Minimal complexity architecture",
        "Compare with Figures 11 and 12: about half of the 1 934 290 parameters of [500, 500, 3]. "
        "If our search found another network, it is shown below the report's.",
        (run_name(MINIMAL_ARCHITECTURE),),
        searched=True,
    ),
    Item(
        "table_1",
        "tables",
        "Loss after convergence",
        "4.4 Training process and loss",
        REPLICA + "The objective contains β, −ELBO is recon + KL. MSE is per pixel.",
        ("vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "cvae_scalar", "vqvae"),
        split="train and test",
        columns=(
            *("model", "budget_percent", *compared("recon", "kl", "neg_elbo", "objective")),
            *("within_tolerance", "test_nll", "test_mse"),
        ),
    ),
    Item(
        "table_2",
        "tables",
        "Search for the minimal architecture",
        "5.2 Minimal complexity architecture",
        "Δ is ours on the training set minus the report's. Steps count the report's probes "
        "and ours; path says who made a probe. The report's numbers of probes that only we "
        "made come from its Table 3.",
        tuple(run_name(row.architecture) for row in TABLE_2),
        split="train and test",
        columns=(
            *("architecture", "step", "our_step", "parameters", *compared("recon", "kl")),
            *("good", "report_good", "flip_probability"),
        ),
        searched=True,
    ),
    Item(
        "table_3",
        "tables",
        "Performance of different networks",
        "6.2 Additional experiments",
        REPLICA.strip(),
        tuple(run_name(row.architecture) for row in TABLE_3),
        split="train and test",
        columns=(
            *("architecture", "parameters", "budget_percent"),
            *compared("recon", "kl", "neg_elbo"),
            "within_tolerance",
        ),
        pictures=True,
    ),
    Item(
        "table_likelihood",
        "tables",
        "Estimates of log p(x) at the end of training",
        "2.2 Marginal likelihood",
        "The report's formula and its notebook's are biased; see the report's section 6.1.2.",
        PLOTS["figure_03"].runs,
        split="train and test",
        columns=(
            *("model", "split", "estimator", "nats", "over_elbo", "over_elbo_short"),
            *("images", "z_samples", "diagnostic"),
        ),
        beside="Figure 3",
    ),
    Item(
        "table_curves",
        "readings",
        "Our curves at the points read off the report's",
        "4.4 Training process and loss",
        "Δ is ours, smoothed as the report smooths, minus the report's. Only under the report's "
        "own recipe (faithful, paper) should it be near zero; others learn at another speed.",
        tuple(dict.fromkeys(run for plot in PLOTS.values() for run in plot.reported)),
        split="train and test",
        columns=(
            *("figure", "series", "quantity", "split", "samples"),
            *("report_value", "smoothed", "unsmoothed", "diff_smoothed"),
        ),
        beside="Figures 1, 2, 3, 6 and 14",
    ),
    Item(
        "table_front",
        "studies",
        "Reconstruction against parameters",
        "5.2 Minimal complexity architecture",
        "Front: of the networks of the same budget whose KL is at most 10, none is as small and "
        "has a lower recon. The report's definition minimises width by width, which need not lead "
        "there.",
        (*(run_name(row.architecture) for row in TABLE_3), *FRONT),
        split="train and test",
        columns=(
            *("architecture", "samples", "parameters", "seeds"),
            *("train_recon", "test_recon", "train_kl", "test_kl", "good", "front"),
        ),
        searched=True,
        apart=True,
    ),
    Item(
        "table_recipe",
        "studies",
        "The recipe taken apart",
        "5.1 Assumption and definition",
        "The report's recipe is N(0, 0.01), Adagrad and no output bias; the modern one is fan-in, "
        "Adam and an output bias at the mean image. Adagrad has a constant rate and batches of "
        "100, Adam a warm-up, a linear decay and batches of 128. One million samples.",
        RECIPES,
        split="train and test",
        columns=(
            *("architecture", "init", "optimizer", "output_bias", "seeds"),
            *("train_neg_elbo", "test_neg_elbo", "train_recon", "train_kl"),
        ),
        apart=True,
    ),
):
    add(_item)
