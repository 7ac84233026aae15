"""The page's section of runs that no figure and no table shows."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path

import numpy as np
from PIL import Image

from result_folders import alias, history, losses, write_run, write_runs
from review_folder import make_page, provenance, write_folder
from vaelab.output.page import charts
from vaelab.output.page.other import other_runs
from vaelab.results.reader import Results
from vaelab.util.io import write_csv, write_json, write_npz

RECIPE = {"dataset": "digits8", "learning_rate": 0.01, "samples": 300_000, "seed": 0}
SPEC = RECIPE | {"model": "vae", "latent_dim": 2, "condition": "onehot"}
QUANTISER = {"objective": 0.04, "mse": 0.03, "embedding": 0.01, "perplexity": 7.0}


def own_results(folder: Path) -> Results:
    """One run of a figure, and two on images of 4 x 3: a VAE with two seeds and a VQ-VAE."""
    write_runs(folder, ["vae"])
    images = np.arange(100 * 12).reshape(100, 12).astype(np.uint8)
    arrays = dict.fromkeys(("originals", "reconstructions", "prior_samples"), images)
    for seed in (0, 1):
        run = write_run(
            folder, "mine", seed, test=losses(20.0 + seed, 2.0), image_shape=[4, 3], spec=SPEC
        )
        write_npz(run / "arrays.npz", arrays | {"manifold": images[:4].reshape(2, 2, 12)})
    spec = RECIPE | {"model": "vqvae", "latent_dim": 16, "codebook_size": 8}
    run = write_run(folder, "codes", train=QUANTISER, test=QUANTISER, image_shape=[4, 3], spec=spec)
    write_npz(run / "arrays.npz", arrays)
    parts = {key: [1.0, 0.5] for key in ("objective", "mse", "embedding")}
    write_csv(run / "history.csv", history([100, 200], parts, parts))
    return Results(folder, alias(["vae", "mine"], (0, 1)) | alias(["vae", "codes"]))


def test_numbers_curves_and_pictures(tmp_path: Path) -> None:
    results = own_results(tmp_path / "mine")
    measured = {"mine": [{"fid": 2.0, "prior_auc": 0.25}, {"fid": 4.0, "prior_auc": 0.75}]}
    judged = {"digits8": {"reference": {"fid": 0.5}}}
    content = {"reference": {"fid": 9.0}, "datasets": judged, "runs": measured}
    write_json(results.folder / "measures.json", content)
    mine, codes = other_runs(results)
    assert (mine.name, mine.about) == (
        "mine",
        "CVAE, d = 2, on digits8; 300\N{NO-BREAK SPACE}000 samples",
    )
    assert mine.losses[:2] == [("recon", 110.0, 20.5), ("KL", 9.0, 2.0)]
    assert [(ours, real) for _, ours, real in mine.measures] == [(3.0, 0.5), (0.5, None)]
    assert [row[0] for row in codes.losses] == [
        *("squared error", "embedding loss", "objective", "perplexity of the codes"),
    ]
    assert codes.measures == []
    (panel,) = codes.chart.panels
    assert {trace["name"] for trace in charts.as_plotly(panel)["data"]} == {
        f"{label}, {split}"
        for label in ("squared error", "embedding loss", "objective")
        for split in ("train", "test")
    }
    # 2 x 2 images of 4 x 3 without lines between them, 101 times enlarged.
    title, picture = mine.pictures[-1]
    assert (title, picture.width, picture.height) == ("The latent plane, decoded", 606, 808)
    image = Image.open(io.BytesIO(b64decode(picture.uri.partition(",")[2]))).convert("L")
    assert abs(image.getpixel((50, 50)) - 0) < 12 > abs(image.getpixel((550, 750)) - 47)


def test_the_section_is_there_with_such_runs_alone(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    plain = write_folder(folder)
    assert "Other runs" not in make_page(folder, results=plain).read_text()
    own = own_results(folder)
    for run in ("vae-s0", "mine-s0", "mine-s1", "codes-s0"):
        write_json(folder / "runs" / run / "provenance.json", provenance(run[:-3]) | {"run": run})
    text = make_page(folder, results=Results(folder, plain.alias | own.alias)).read_text()
    assert '<a href="#other">' in text
    assert text.count("Measures of generation: not available") == 2
    assert 'data-figure="run-mine"' in text
    assert '"run-mine":' in text
