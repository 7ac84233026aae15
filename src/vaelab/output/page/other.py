"""Runs that no figure and no table shows: rows that somebody added to the run table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vaelab.models.families import family_of
from vaelab.output import plots
from vaelab.output.catalogue import CATALOGUE
from vaelab.output.figures.grids import image_grid
from vaelab.output.page import charts
from vaelab.output.page.media import SHEET_QUALITY, Picture, encoded
from vaelab.results.reader import Results, grouped
from vaelab.settings.spec import RunSpec
from vaelab.util.io import read_json

# Images in a row of a sheet, and the least width of a sheet in pixels.
COLUMNS, WIDTH = 10, 604
CURVES = {
    "recon": ("recon", plots.BLUE),
    "kl": ("KL", plots.VERMILION),
    "neg_elbo": ("−ELBO", plots.GREEN),
    "mse": ("squared error", plots.BLUE),
    "embedding": ("embedding loss", plots.VERMILION),
    "objective": ("objective", plots.INK),
}
LOSSES = {
    **{key: label for key, (label, _) in CURVES.items()},
    "nll": "−log p(x)",
    "perplexity": "perplexity of the codes",
}
# Measures of generated images, of which real ones have a value too, and of codes.
MEASURES = {
    "fid": "Fréchet distance on the classifier's features",
    "confidence": "confidence of the classifier",
    "label_agreement": "share that has the label asked for",
    "sharpness": "sharpness",
    "entropy": "pixel entropy, nats",
    "pixel_variance": "pixel variance",
    "knn_accuracy": "labels found from the codes",
    "precision": "precision of the samples",
    "recall": "recall of the samples",
    "prior_auc": "AUC of codes against the prior",
    "aggregate_kl": "KL of all codes to the prior, nats",
}


@dataclass(frozen=True)
class OtherRun:
    """What the page shows of a run.

    Attributes:
        name: name of the run; `key` names its drawing in the page's data.
        about: model, dataset and budget in a line.
        losses: label, on train and on test; means over seeds, None where not measured.
        measures: label, of generated and of real images; empty without labels.
        chart: the curves.
        pictures: sheets of images with their titles, of the first seed.
    """

    name: str
    about: str
    losses: Sequence[tuple[str, float | None, float | None]]
    measures: Sequence[tuple[str, float, float | None]]
    chart: charts.Chart
    pictures: Sequence[tuple[str, Picture]]

    @property
    def key(self) -> str:
        """run-<name>."""
        return f"run-{self.name}"


def other_runs(results: Results) -> list[OtherRun]:
    """Every evaluated run that is in no figure and no table, in the order of the run table."""
    shown = {name for item in CATALOGUE.values() for name in item.runs}
    names = [name for name in results.alias if name not in shown and results.has(name)]
    path = results.folder / "measures.json"
    measures = read_json(path) if names and path.is_file() else {}
    return [_run(results, name, measures) for name in names]


def _run(results: Results, name: str, measures: Mapping[str, Any]) -> OtherRun:
    metrics = results.metrics(name)
    spec = metrics[0]["spec"]
    full = RunSpec.from_flat({key: value for key, value in spec.items() if key != "seed"})
    losses = []
    for loss, label in LOSSES.items():
        train, test = (_mean([m[split].get(loss) for m in metrics]) for split in ("train", "test"))
        if test is not None:
            losses.append((label, train, test))
    return OtherRun(
        name,
        f"{family_of(full).label(full)}, d = {spec['latent_dim']}, on {spec['dataset']}; "
        f"{grouped(metrics[0]['samples'])} samples",
        losses,
        _measures(measures, name, spec["dataset"]),
        _chart(results, name, metrics[0]["test"]),
        _pictures(results, name),
    )


def _mean(values: Sequence[Any]) -> float | None:
    return None if None in values else float(np.mean(values))


def _measures(
    measures: Mapping[str, Any], name: str, dataset: str
) -> list[tuple[str, float, float | None]]:
    seeds = measures.get("runs", {}).get(name, [])
    real = measures.get("datasets", {}).get(dataset, measures).get("reference", {})
    return [
        (label, float(np.mean([seed[key] for seed in seeds])), real.get(key))
        for key, label in MEASURES.items()
        if seeds and key in seeds[0]
    ]


def _chart(results: Results, name: str, test: Mapping[str, Any]) -> charts.Chart:
    # A VAE has a squared error as well, but it is not part of its objective.
    chosen = ("recon", "kl", "neg_elbo") if "kl" in test else ("mse", "embedding", "objective")
    series = tuple(
        plots.Series(name, key, CURVES[key][0], plots.Pair(CURVES[key][1], CURVES[key][1]))
        for key in chosen
    )
    unit = "nats per image" if "kl" in test else "mean squared error"
    panel = plots.Panel("Losses during training", unit, series, (0.0, 0.0))
    chart = charts.chart(results, name, (panel,))
    assert chart is not None
    return chart


def _pictures(results: Results, name: str) -> list[tuple[str, Picture]]:
    arrays, shape = results.arrays(name), results.image_shape(name)
    found = {
        "Test images": arrays["originals"],
        "Reconstructions": arrays["reconstructions"],
        "Samples from the prior": arrays["prior_samples"],
    }
    if "conditional_samples" in arrays:
        samples = arrays["conditional_samples"][:, :COLUMNS]
        found["Samples for each label, a row a label"] = samples.reshape(-1, samples.shape[-1])
    sheets = {title: image_grid(images, shape, COLUMNS) for title, images in found.items()}
    if "manifold" in arrays:
        plane = arrays["manifold"]
        images = plane.reshape(-1, plane.shape[-1])
        sheets["The latent plane, decoded"] = image_grid(images, shape, plane.shape[1], padding=0)
    return [(title, _picture(sheet)) for title, sheet in sheets.items()]


def _picture(sheet: np.ndarray) -> Picture:
    factor = -(-WIDTH // sheet.shape[1])
    pixels = sheet.repeat(factor, axis=0).repeat(factor, axis=1)
    return encoded(Image.fromarray(pixels).convert("RGB"), quality=SHEET_QUALITY)
