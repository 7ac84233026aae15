"""Figures made of images: reconstructions, samples, manifolds."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from vaelab.original.numbers import MINIMAL_ARCHITECTURE, TABLE_3
from vaelab.output.catalogue import BETAS, MNIST
from vaelab.output.figures.grids import Panel, image_grid, sheet
from vaelab.output.plots import MODEL_NOTES, MODELS, VAES
from vaelab.results.reader import Results, grouped, seed_mean
from vaelab.search.algorithm import brackets, run_name

# How a model's samples came about, where its note does not say.
SAMPLED = {"vae": "z drawn from the prior", "cvae_onehot": "one-hot labels drawn at random"}


def figure_04(results: Results) -> Figure:
    """Reconstructions of 100 test images with d = 2, 5, 10, 20 (report, section 2.3)."""
    return _reconstructions(results, MNIST, "random_", "100 test images")


def figure_05(results: Results) -> Figure:
    """The d = 2 manifolds and 100 prior samples with d = 2, 5, 10, 20 (report, section 2.4).

    The manifold of Frey Face is Kingma & Welling's (Figure 4a); the report does not show it.
    """
    faces = "synthetic faces" if results.synthetic(["frey_d2"]) else "Frey Face"
    panels = [
        _manifold(results, "mnist_d2", "Manifold, MNIST, d = 2"),
        _manifold(results, "frey_d2", f"Manifold, {faces}, d = 2"),
        *(
            _grid(results, name, "prior_samples", f"Samples, {title}", "z drawn from the prior")
            for name, title in MNIST.items()
        ),
    ]
    return sheet(panels, 3, results, [*MNIST, "frey_d2"])


def figure_07(results: Results) -> Figure:
    """Prior samples with beta = 1, 2, 5, 50 (report, section 3.1)."""
    panels = [
        _grid(results, name, "prior_samples", title, _test_kl(results, name))
        for name, title in BETAS.items()
    ]
    return sheet(panels, 2, results, list(BETAS), note="z drawn from the prior")


def figure_08(results: Results) -> Figure:
    """Reconstructions of the first 100 test images with beta = 1, 2, 5, 50 (section 3.1)."""
    return _reconstructions(results, BETAS, "", "first 100 test images")


def figure_09(results: Results) -> Figure:
    """Samples of the CVAE whose condition is the digit as one number (section 3.2)."""
    return _conditional(results, "cvae_scalar", "condition: the digit as one number")


def figure_10(results: Results) -> Figure:
    """Samples of the CVAE whose condition is the one-hot digit (section 3.2)."""
    return _conditional(results, "cvae_onehot", "condition: the digit as a one-hot vector")


def figure_11(results: Results) -> Figure:
    """Reconstructions of the first 100 test images by all models (section 4.1)."""
    panels = [_grid(results, "vae", "originals", "Original", "first 100 test images")]
    for name, title in MODELS.items():
        error = seed_mean(results.metrics(name), "test", "mse")
        subtitle = f"{MODEL_NOTES.get(name, '')} · MSE {error:.4f}".removeprefix(" · ")
        panels.append(_grid(results, name, "reconstructions", title, subtitle))
    return sheet(panels, 3, results, list(MODELS), note="MSE: per pixel, all test images")


def figure_12(results: Results) -> Figure:
    """Samples of all models; the VQ-VAE's are an addition to the report (section 4.2)."""
    notes = MODEL_NOTES | SAMPLED
    panels = [
        _grid(results, name, "prior_samples", title, notes[name]) for name, title in VAES.items()
    ]
    for array, note in (
        ("prior_samples", "codes drawn from a learned prior"),
        ("uniform_samples", "codes drawn uniformly"),
    ):
        panels.append(_grid(results, "vqvae", array, "VQ-VAE (addition)", note))
    return sheet(panels, 3, results, list(MODELS))


def figure_15(results: Results) -> Figure:
    """The minimal architecture of the report, and beside it the one our search found (5.2).

    Without a search, or where it found what the report found, the report's stands alone.
    """
    shown = [("the report's", MINIMAL_ARCHITECTURE)]
    search = results.decisions
    answer = tuple((search and search["answer"].get("architecture")) or ())
    if answer and answer != MINIMAL_ARCHITECTURE:
        shown.append(("our search's", answer))
    panels, names = [], []
    for owner, widths in shown:
        name = run_name(widths)
        names.append(name)
        size = grouped(results.metrics(name)[0]["parameters"])
        title = f"{brackets(widths)}, {owner}, {size} parameters"
        recon = _test_recon(results, name)
        panels += [
            _grid(results, name, "prior_samples", title, "generation"),
            _grid(results, name, "reconstructions", "", f"reconstruction · {recon}"),
        ]
    return sheet(panels, 2, results, names, note=_search_note(results, answer))


def table_3_pictures(results: Results) -> Figure:
    """The images of Table 3: reconstruction and generation of every architecture.

    Two architectures to a row of the sheet; each pair is the reconstruction of the first 100 test
    images and 100 prior samples.
    """
    panels, names = [], []
    for row in TABLE_3:
        name = run_name(row.architecture)
        names.append(name)
        recon = _test_recon(results, name)
        panels += [
            _grid(results, name, "reconstructions", brackets(row.architecture), recon),
            _grid(results, name, "prior_samples", "", "samples"),
        ]
    originals = _grid(results, names[0], "originals", "Original", "first 100 test images")
    return sheet([*panels, originals], 4, results, names, cell=302)


def _search_note(results: Results, answer: tuple[int, ...]) -> str:
    if results.decisions is None or not results.decisions["answer"]["finished"]:
        return "our search has not ended"
    if not answer:
        return "our search found no good architecture"
    if answer == MINIMAL_ARCHITECTURE:
        return "our search found the same architecture"
    resolution = results.decisions["settings"]["resolution"]
    return f"our search settled widths to within {resolution}" if resolution > 1 else ""


def _reconstructions(
    results: Results, titles: Mapping[str, str], which: str, subtitle: str
) -> Figure:
    """Originals, then what each of the runs makes of them; `which` begins the arrays' names."""
    panels = [_grid(results, next(iter(titles)), f"{which}originals", "Original", subtitle)]
    for name, title in titles.items():
        array, recon = f"{which}reconstructions", _test_recon(results, name)
        panels.append(_grid(results, name, array, title, recon))
    return sheet(panels, 3, results, list(titles), note="reconstructions from a sampled z")


def _conditional(results: Results, name: str, note: str) -> Figure:
    images = results.arrays(name)["conditional_samples"]
    shape = results.image_shape(name)
    panels = [
        Panel(f"c = {digit}", image_grid(samples, shape, 4)) for digit, samples in enumerate(images)
    ]
    return sheet(panels, 5, results, [name], cell=366, note=note)


def _grid(results: Results, name: str, array: str, title: str, subtitle: str = "") -> Panel:
    """A 10 x 10 grid of one array of a run's first seed."""
    images = results.arrays(name)[array]
    return Panel(title, image_grid(images, results.image_shape(name), 10), subtitle)


def _manifold(results: Results, name: str, title: str) -> Panel:
    """The decoder's means over the latent plane: z1 grows to the right, z2 upwards."""
    images = results.arrays(name)["manifold"]
    flat = images.reshape(-1, images.shape[-1])
    grid = image_grid(flat, results.image_shape(name), images.shape[1])
    return Panel(title, grid, "z1 to the right, z2 upwards, −4.3 to 4.3")


def _test_recon(results: Results, name: str) -> str:
    return f"test recon {seed_mean(results.metrics(name), 'test', 'recon'):.1f} nats"


def _test_kl(results: Results, name: str) -> str:
    kl = seed_mean(results.metrics(name), "test", "kl")
    return f"test KL {kl:.1f} nats" if kl >= 0.05 else f"test KL {kl:.0e} nats"
