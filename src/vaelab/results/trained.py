"""Which trained models there are, where their weights lie, and what these are. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelab.settings.spec import MODEL_PARTS, RunSpec
from vaelab.util.errors import VaelabError
from vaelab.util.io import CHECKOUT, read_json
from vaelab.util.registry import nearest_first

if TYPE_CHECKING:
    import pandas as pd

# Folders of weights in results/<preset>, best first: those of the training, and those in half
# precision that a clone comes with.
FULL, HALF = "checkpoints", "models"


@dataclass(frozen=True)
class CheckpointRecord:
    """What a checkpoint's weights are.

    Attributes:
        name: name of the run.
        seed: seed of the training.
        spec: specification of the run.
        dataset_sha256: SHA-256 of the content of its dataset.
        image_shape: height and width of an image.
        classes: labels of the dataset, 0 without.
    """

    name: str
    seed: int
    spec: RunSpec
    dataset_sha256: str
    image_shape: tuple[int, int]
    classes: int

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.image_shape[0] * self.image_shape[1]

    def metadata(self) -> dict[str, Any]:
        """The record as JSON values, for the checkpoint's own metadata."""
        return {
            "name": self.name,
            "seed": self.seed,
            "spec": self.spec.flat(),
            "dataset": {
                "sha256": self.dataset_sha256,
                "image_shape": list(self.image_shape),
                "classes": self.classes,
            },
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> CheckpointRecord | None:
        """The record in a checkpoint's metadata; None in one that was written before it was.

        Raises:
            VaelabError: a model of a family that is not registered.
        """
        if "spec" not in metadata:
            return None
        family = metadata["spec"]["model"]
        if family not in MODEL_PARTS:
            raise VaelabError(f"{MODEL_PARTS.unknown(family)}; import the extension that has it")
        dataset = metadata["dataset"]
        height, width = dataset["image_shape"]
        return cls(
            name=metadata["name"],
            seed=metadata["seed"],
            spec=RunSpec.from_flat(metadata["spec"]),
            dataset_sha256=dataset["sha256"],
            image_shape=(height, width),
            classes=dataset["classes"],
        )


def find_checkpoint(source: str | Path, results: str | Path | None = None) -> Path:
    """The file that holds the weights of a checkpoint's path or of "preset/run".

    Args:
        source: a path, "preset/run" (the first seed there is) or "preset/run-s1".
        results: folder of the presets' results; by default `results` here, then in the checkout.

    Raises:
        VaelabError: neither; the message lists what there is.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix == ".safetensors" or len(path.parts) != 2:
        raise VaelabError(f"{source} is neither a file nor a run such as 'modern/vae'")
    preset, run = path.parts
    folders = [folder for folder in _folders(results) if (folder / preset).is_dir()]
    if not folders:
        known = _presets(results)
        raise VaelabError(_none(f"results of a preset {preset!r}", nearest_first(preset, known)))
    there: list[str] = []
    for folder in folders:
        for kind in (FULL, HALF):
            files = {file.stem: file for file in (folder / preset / kind).glob("*-s*.safetensors")}
            matching = [name for name in sorted(files) if name.rpartition("-s")[0] == run]
            if run in files or matching:
                return files.get(run) or files[matching[0]]
            there += sorted(files)
    raise VaelabError(
        _none(f"weights of {run!r} in preset {preset}", nearest_first(run, there))
        + "; train the run, or bring weights back with `vaelab restore`"
    )


def runs(preset: str, results: str | Path | None = None) -> pd.DataFrame:
    """The evaluated runs of a preset, one a row, by name and seed.

    Args:
        preset: "quick", "modern" and so on.
        results: folder of the presets' results; by default `results` here, then in the checkout.

    Returns:
        Columns: run, seed, spec (a RunSpec), samples; in nats per image train_neg_elbo,
        test_neg_elbo, test_recon, test_kl, test_nll; test_mse per pixel; weights (the file, or
        None). What a model does not have is NaN.

    Raises:
        VaelabError: there are no results of the preset.
    """
    # Imported here, as a training needs the rest of this module and pandas takes 0.4 s.
    import pandas as pd

    folder = next((f / preset for f in _folders(results) if (f / preset / "runs").is_dir()), None)
    if folder is None:
        raise VaelabError(_none(f"results of a preset {preset!r}", _presets(results)))
    rows = []
    for path in sorted(folder.glob("runs/*/metrics.json")):
        metrics = read_json(path)
        test, train = metrics["test"], metrics["train"]
        files = [folder / kind / f"{metrics['run']}.safetensors" for kind in (FULL, HALF)]
        rows.append(
            {
                "run": metrics["name"],
                "seed": metrics["seed"],
                "spec": RunSpec.from_flat(
                    {k: v for k, v in metrics["spec"].items() if k != "seed"}
                ),
                "samples": metrics["samples"],
                "train_neg_elbo": train.get("neg_elbo"),
                **{
                    f"test_{key}": test.get(key)
                    for key in ("neg_elbo", "recon", "kl", "nll", "mse")
                },
                "weights": next((file for file in files if file.is_file()), None),
            }
        )
    return pd.DataFrame(rows)


def _folders(results: str | Path | None) -> list[Path]:
    return [Path(results)] if results is not None else [Path("results"), CHECKOUT / "results"]


def _presets(results: str | Path | None) -> list[str]:
    return sorted({path.parent.name for f in _folders(results) for path in f.glob("*/runs")})


def _none(what: str, known: Iterable[str]) -> str:
    there = ", ".join(known) or "none here and none where vaelab was installed from; give a file"
    return f"there are no {what}; there are: {there}"
