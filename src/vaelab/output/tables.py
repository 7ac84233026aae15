"""The report's tables with its numbers, ours, and the difference; and tables beside its figures.

Losses are nats per image. The report's are training-set numbers, so a difference is ours on
the training set minus the report's; ours on the test set stand beside it. `neg_elbo` is
recon + kl whatever beta was; `objective`, the report's "ELBO loss", contains beta.

A column `<quantity>_spread` is the standard deviation over seeds. With one seed it is the standard
error over images where these are a sample: of all digits, or of the images trained on; all images
trained on are no sample. The column `spread` says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vaelab.data.registry import DATASETS
from vaelab.original import numbers
from vaelab.original.numbers import ArchitectureRow, BenchmarkRow
from vaelab.output.catalogue import CATALOGUE
from vaelab.output.columns import COLUMNS, Column
from vaelab.output.plots import MODELS
from vaelab.results.reader import Results, alarm_notes, provenance_line, seed_mean
from vaelab.results.records import (
    ERRORS,
    SPLITS,
    FittedLikelihood,
    Loss,
    Metrics,
    SearchProbe,
    Split,
)
from vaelab.search.algorithm import Architecture, Measurement, brackets, judge, run_name
from vaelab.search.noise import judged_alone
from vaelab.settings.config import SearchSettings
from vaelab.util.io import atomic_write, write_csv

LOSSES: tuple[Loss, ...] = ("recon", "kl", "neg_elbo")

# Table 1: what a reader should know of a run, and longer names where there are two of a kind.
NOTES = {
    "bvae_beta2": "the report's BVAE row: its numbers imply β = 2, not 5",
    "bvae_beta5": "what the report's text states; it has no numbers for it",
    "cvae_onehot": "bounds log p(x|c), not log p(x)",
    "cvae_scalar": "not in the report's table",
    "vqvae": "not in the report's table: it has no likelihood",
}
NAMES = MODELS | {"cvae_onehot": "CVAE, one-hot label", "cvae_scalar": "CVAE, label as a number"}


def table_1(results: Results) -> pd.DataFrame:
    """Loss after convergence (report, section 4.4), one row a model.

    Beyond the losses: the estimated negative log-likelihood `test_nll` by importance sampling
    (for a CVAE of x given its label) and mean squared errors per pixel. The report's minutes have
    ours beside them on the results page only: those differ from one rerun to the next, and a table
    may not.
    """
    reported = {row.run: row for row in numbers.TABLE_1}
    estimate = results.metrics("vae")[0]["test"]
    rows, fitted, own = [], list[str](), list[str]()
    for run in CATALOGUE["table_1"].runs:
        metrics = results.recorded(run)
        report = reported.get(run)
        row: dict[str, Any] = {
            "model": NAMES[run],
            "run": run,
            "in_report": report is not None,
            "beta": metrics[0]["spec"]["beta"],
            "samples": metrics[0]["samples"],
            "budget_percent": 100 * metrics[0]["samples"] / numbers.TABLE_1_SAMPLES,
            **_losses(metrics, report, (*LOSSES, "objective")),
            **_nll(NAMES[run], metrics, results.fitted_likelihoods, fitted, own),
            **{f"{split}_mse": _mean(metrics, split, "mse") for split in SPLITS},
            "report_minutes": report.minutes if report else np.nan,
            "note": NOTES.get(run, ""),
        }
        rows.append(row)
    return titled(
        pd.DataFrame(rows),
        "table_1",
        results,
        CATALOGUE["table_1"].runs,
        "NLL is −log p(x): −ELBO over all test images, less what importance sampling with "
        f"{estimate['nll_z_samples']} samples takes off it on {estimate['nll_images']} of them. "
        "The samples are of Gaussians fitted to their posteriors.",
        *([f"From the encoder it would be higher: {'; '.join(fitted)}."] if fitted else []),
        *([f"Samples of the encoder, so biased upwards: {'; '.join(own)}."] if own else []),
    )


def _nll(
    model: str,
    metrics: Sequence[Metrics],
    likelihoods: Mapping[str, FittedLikelihood],
    fitted: list[str],
    own: list[str],
) -> dict[str, float]:
    """NLL of the seeds that nll.json has, else the evaluation's; and what notes say of it."""
    if found := [likelihoods[run["run"]] for run in metrics if run["run"] in likelihoods]:
        values = [entry["nll"] for entry in found]
        excess = np.mean([entry["encoder_excess"] for entry in found])
        error = np.sqrt(np.sum([entry["encoder_excess_se"] ** 2 for entry in found])) / len(found)
        seeds = f", {len(found)} of {len(metrics)} seeds" if len(found) < len(metrics) else ""
        fitted.append(f"{model} by {excess:.2f} ± {error:.2f} nats{seeds}")
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else found[0]["nll_se"]
        return {"test_nll": float(np.mean(values)), "test_nll_spread": spread}
    if _has(metrics, "test", "nll"):
        own.append(model)
    return {
        "test_nll": _mean(metrics, "test", "nll"),
        "test_nll_spread": _spread(metrics, "test", "nll"),
    }


def table_2(results: Results) -> pd.DataFrame:
    """The search for the minimal architecture (report, section 5.2).

    The report's 17 probes in its order, then the probes that only our own search made. `path`
    says who made a probe: report, ours or both. Numbers of the report are shown wherever it has
    them, also from its Table 3. `good` applies the search's thresholds to our numbers;
    `flip_probability` is the chance that repeating the trainings would turn the verdict.
    """
    reported = numbers.architecture_rows()
    settings, probes = SearchSettings(), {}
    if results.decisions is not None:
        settings = SearchSettings.model_validate(results.decisions["settings"])
        probes = {tuple(probe["architecture"]): probe for probe in results.decisions["probes"]}
    order = {architecture: step for step, architecture in enumerate(probes, start=1)}
    theirs = [row.architecture for row in numbers.TABLE_2]
    rows = []
    for architecture in dict.fromkeys([*theirs, *order]):
        in_report = architecture in theirs
        metrics = results.metrics(run_name(architecture))
        report = reported.get(architecture)
        row = {
            "step": theirs.index(architecture) + 1 if in_report else None,
            "our_step": order.get(architecture),
            "path": "ours" if not in_report else "both" if architecture in order else "report",
            **_architecture(architecture, metrics, report),
            "report_good": report and _good(report),
            **_verdict(architecture, metrics, settings, probes.get(architecture)),
        }
        rows.append(row)
    frame = pd.DataFrame(rows).astype({"step": "Int64", "our_step": "Int64"})
    return titled(
        frame,
        "table_2",
        results,
        frame["run"],
        f"Good: {settings.metric} recon ≤ {settings.recon:g} and KL ≤ {settings.kl:g}; P(flip) is "
        "the probability that repeated trainings would give the other verdict.",
    )


def table_3(results: Results) -> pd.DataFrame:
    """Performance of different networks (report, section 6.2), one row an architecture."""
    rows = [
        _architecture(row.architecture, results.recorded(run_name(row.architecture)), row)
        for row in numbers.TABLE_3
    ]
    return titled(pd.DataFrame(rows), "table_3", results, CATALOGUE["table_3"].runs)


def table_likelihood(results: Results) -> pd.DataFrame:
    """All estimates of log p(x) at the end of training, the companion of Figure 3.

    `over_elbo` is the difference to the ELBO of the same images, `over_elbo_short` the same with as
    few draws as the curves have, the report's 50.
    """
    names = CATALOGUE["table_likelihood"].among(results.alias)
    frames, keys = [], ["split", "estimator"]
    for name in names:
        seeds = [seed.set_index(keys) for seed in results.likelihood_final(name)]
        frame = seeds[0].drop(columns=["se", "over_elbo_se"], errors="ignore")
        for column, se, values in (
            ("nats", "se", [seed["nats"] for seed in seeds]),
            ("over_elbo", "over_elbo_se", [_over_elbo(seed) for seed in seeds]),
            ("over_elbo_short", "", [_over_elbo(_end(c)) for c in results.likelihood(name)]),
        ):
            together = pd.concat(values, axis=1)
            frame[column] = together.mean(axis=1)
            several = together.shape[1] > 1
            frame[f"{column}_spread"] = (
                together.std(axis=1) if several else seeds[0].get(se, np.nan)
            )
        frame = frame.reset_index()
        frame.insert(0, "model", name)
        frame["spread"] = _spread_kind(len(seeds))
        for column in ("images", "z_samples", "diagnostic"):
            frame[column] = frame.pop(column)
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    notes = [
        "elbo, harmonic, report and notebook reduce draws from the encoder; importance, kw_d and "
        "ais start from Gaussians fitted to each image's posterior. MCEM trains no encoder: the "
        "fitted Gaussians stand in for it.",
        "− ELBO is the difference to the ELBO of the same images, at the end and with the 50 draws "
        "of the curves, where the two errors of the notebooks' formula cancel in part.",
        "R-hat says whether the chains of an image agree, as they do up to 1.1. Where many images "
        "have more, chains stay in separate modes of the posterior, and kw_d is low.",
    ]
    if table["over_elbo_spread"].isna().all():
        notes.append("These runs were evaluated without paired standard errors.")
    if table["diagnostic"].astype(str).str.contains(r"R-hat \d").any():
        notes.append("R-hat is a mean over images here; their share above 1.1 was not recorded.")
    return titled(table, "table_likelihood", results, names, *notes)


def _over_elbo(frame: pd.DataFrame) -> pd.Series:
    """Nats less those of the ELBO, which rests on the same images; by split and estimator."""
    elbo = frame["nats"].xs("elbo", level="estimator").reindex(frame.index, level="split")
    over: pd.Series = frame["nats"] - elbo
    return over


def _end(curve: pd.DataFrame) -> pd.DataFrame:
    """The estimates with few draws at the last snapshot."""
    last = curve[curve["samples"] == curve["samples"].max()]
    few: pd.DataFrame = last[last["z_samples"] == last["z_samples"].min()]
    return few.set_index(["split", "estimator"])


def write_table(frame: pd.DataFrame, csv_path: Path | str, md_path: Path | str) -> None:
    """Write a table in full as CSV and, rounded for reading, as Markdown."""
    write_csv(csv_path, frame)
    with atomic_write(md_path) as stream:
        stream.write(markdown(frame))


def write_claims(frame: pd.DataFrame, folder: Path, others: Iterable[Path]) -> None:
    """Write claims.csv, and claims.md with the verdicts of further presets beside its own.

    Args:
        frame: the claims.
        folder: results/<preset>.
        others: claims.csv of further presets. In the file for reading stand those that are
            published: what was tried on one machine alone is not for all.
    """
    write_csv(folder / "claims.csv", frame)
    shown, verdicts = frame.copy(), pd.Series("", index=frame["id"])
    for path in others:
        if (path.parent / "publication.json").is_file():
            found = pd.read_csv(path).set_index("id")["verdict"].reindex(verdicts.index)
            verdicts += ", " + path.parent.name + ": " + found.fillna("not judged")
    if verdicts.any():
        elsewhere = verdicts.str.removeprefix(", ").to_numpy()
        shown.insert(list(shown).index("verdict") + 1, "elsewhere", elsewhere)
    with atomic_write(folder / "claims.md") as stream:
        stream.write(markdown(shown))


def markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown: losses to one decimal, spreads after ±, notes below."""
    shown = {
        key: COLUMNS[key]
        for key in frame
        if key in COLUMNS and COLUMNS[key].heading is not None and frame[key].notna().any()
    }
    lines = shown and [
        [str(column.heading) for column in shown.values()],
        ["---:" if column.numeric else "---" for column in shown.values()],
        *(
            [_cell(row, key, column) for key, column in shown.items()]
            for row in frame.to_dict("records")
        ),
    ]
    title = [f"## {frame.attrs['title']}", ""] if "title" in frame.attrs else []
    body = ["| " + " | ".join(cells) + " |" for cells in lines]
    notes = [line for note in frame.attrs.get("notes", ()) for line in ("", note)]
    return "\n".join([*title, *body, *notes]) + "\n"


def _cell(row: Mapping[Any, Any], key: str, column: Column) -> str:
    text, spread = column.text(row[key]), column.spread(row, key)
    return f"{text} ± {spread}" if text and spread else text.replace("|", "\\|")


def titled(
    frame: pd.DataFrame, target: str, results: Results, names: Iterable[str], *notes: str
) -> pd.DataFrame:
    """Attach title and notes for the Markdown twin; the first note is the catalogue's."""
    item, names = CATALOGUE[target], list(names)
    # Tables 1 and 3 also have further seeds on record.
    seeds = frame["seeds"] if "seeds" in frame else [len(results.metrics(n)) for n in names]
    counts = set(map(int, seeds))
    several = "standard deviation over " + " or ".join(map(str, sorted(counts - {1}))) + " seeds"
    single = "standard error over images, where these are a sample"
    if counts - {1}:
        spread = several + (f"; of a run with one seed, the {single}" if 1 in counts else "")
    else:
        spread = single
    origin = provenance_line(results, names, counts)
    frame.attrs["title"] = (
        f"{item.title} ({item.beside})" if item.beside else f"{item.label}. {item.title}"
    )
    frame.attrs["notes"] = [
        *alarm_notes(results, names),
        f"{origin[0].upper()}{origin[1:]}. Nats per image; ± is the {spread}.",
        item.caption,
        *notes,
    ]
    return frame


def measured(metrics: Sequence[Metrics], quantities: Sequence[Loss]) -> dict[str, Any]:
    """Means and spreads of a run on both splits, and which spread it is."""
    columns: dict[str, Any] = {"seeds": len(metrics), "spread": _spread_kind(len(metrics))}
    for quantity in quantities:
        for split in SPLITS:
            columns[f"{split}_{quantity}"] = _mean(metrics, split, quantity)
            columns[f"{split}_{quantity}_spread"] = _spread(metrics, split, quantity)
    return columns


def _losses(
    metrics: Sequence[Metrics],
    report: BenchmarkRow | ArchitectureRow | None,
    quantities: Sequence[Loss],
) -> dict[str, Any]:
    """Ours on both splits with spreads, the report's, and ours on the training set minus them.

    NaN stands where there is no number. `within_tolerance` is for the report's own recipe alone.
    """
    columns: dict[str, Any] = {}
    for quantity in quantities:
        columns |= measured(metrics, [quantity])
        # The report calls the objective "ELBO loss".
        field = "elbo_loss" if quantity == "objective" else quantity
        theirs = np.nan if report is None else getattr(report, field)
        columns[f"report_{quantity}"] = theirs
        columns[f"diff_{quantity}"] = columns[f"train_{quantity}"] - theirs
    columns["diff_neg_elbo_percent"] = 100 * columns["diff_neg_elbo"] / columns["report_neg_elbo"]
    columns["within_tolerance"] = None
    if report is not None and all(numbers.reports_recipe(run["spec"]) for run in metrics):
        columns["within_tolerance"] = all(
            abs(columns[f"diff_{quantity}"]) <= tolerance
            for quantity, tolerance in numbers.REPLICA_TOLERANCE.items()
        )
    return columns


def _has(metrics: Sequence[Metrics], split: Split, quantity: Loss) -> bool:
    """Whether a model has a number; the VQ-VAE's objective is in other units than a VAE's."""
    numbers = metrics[0][split]
    return quantity in numbers and (quantity != "objective" or "recon" in numbers)


def _mean(metrics: Sequence[Metrics], split: Split, quantity: Loss) -> float:
    """Mean over seeds; NaN where the model has no such number."""
    return seed_mean(metrics, split, quantity) if _has(metrics, split, quantity) else np.nan


def _spread(metrics: Sequence[Metrics], split: Split, quantity: Loss) -> float:
    """Standard deviation over seeds; with one seed the standard error over a sample of images."""
    if not _has(metrics, split, quantity):
        return np.nan
    if len(metrics) > 1:
        return float(np.std([run[split][quantity] for run in metrics], ddof=1))
    error, spec, ours = ERRORS.get(quantity), metrics[0]["spec"], metrics[0][split]
    trained_on = spec.get("train_subset") or DATASETS[spec["dataset"]].train_images
    if not error or (split == "train" and ours.get("images") == trained_on):
        return np.nan
    return ours.get(error, np.nan)


def _spread_kind(seeds: int) -> str:
    return "se over images" if seeds == 1 else "sd over seeds"


def _architecture(
    architecture: Architecture,
    metrics: Sequence[Metrics],
    report: ArchitectureRow | None,
) -> dict[str, Any]:
    """The columns that Tables 2 and 3 share."""
    return {
        "architecture": brackets(architecture),
        "run": run_name(architecture),
        "parameters": metrics[0]["parameters"],
        "budget_percent": 100 * metrics[0]["samples"] / numbers.TABLE_3_SAMPLES,
        **_losses(metrics, report, LOSSES),
    }


def _good(report: ArchitectureRow) -> bool:
    """Definition 5.1 applied to the report's own numbers."""
    return report.recon <= numbers.GOOD_RECON and report.kl <= numbers.GOOD_KL


def _verdict(
    architecture: Architecture,
    metrics: Sequence[Metrics],
    settings: SearchSettings,
    probe: SearchProbe | None,
) -> dict[str, Any]:
    """Our verdict with its uncertainty; a probe of the search brings its own probability."""
    measurement = Measurement.from_metrics(metrics, settings.metric)
    if probe is not None:
        flip, recon, kl = probe["flip_probability"], probe["recon_se"], probe["kl_se"]
    else:
        flip, recon, kl = judged_alone(architecture, measurement, settings)
    good = judge(measurement, settings).good
    return {"good": good, "recon_se": recon, "kl_se": kl, "flip_probability": flip}
