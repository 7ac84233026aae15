"""The configuration: typed settings, the layers they come from, and errors a user can act on.

Layers, later ones win: `config/config.yaml`, `config/presets/<preset>.yaml`, files given with
`--configfile`, values given with `--config`. The models below are the single definition of
every key; `workflow/schemas/config.schema.json` is generated from them (`vaelab schema`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vaelab.util.errors import VaelabError

CONFIG_FILE = Path("config/config.yaml")
PRESET_FOLDER = Path("config/presets")
RUN_TABLE = "config/runs.tsv"
# A preset whose numbers mean nothing is compared with no other.
MEANINGLESS = "smoke"
# Presets whose results are published: made-up faces are not part of those.
PUBLISHED = ("modern", "faithful", "paper")
Preset = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Group = Literal[
    "aevb",
    "frey",
    "likelihood",
    "beta",
    "benchmark",
    "vqvae",
    "latent",
    "architecture",
    "recipe",
    "yardstick",
]


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Recipe(Settings):
    """Training fields that a preset may change; a key left out keeps the report's value."""

    optimizer: Literal["adagrad", "adam"] | None = Field(
        None, description="Optimiser; Adagrad is the report's, except on Frey Face and VQ-VAE."
    )
    learning_rate: float | None = Field(None, gt=0, description="Peak learning rate.")
    adam_beta2: float | None = Field(
        None, gt=0, lt=1, description="Decay of Adam's second moment; short runs need a short one."
    )
    batch_size: int | None = Field(None, ge=1, description="Images per step.")
    init: Literal["normal", "default"] | None = Field(
        None,
        description="Initial weights: `normal` is N(0, sd 0.01) for every parameter (the "
        "report), `default` PyTorch's, uniform within 1/sqrt(fan-in).",
    )
    output_bias: bool | None = Field(
        None,
        description="Start the decoder's output at the mean training image (VQ-VAE: mean grey).",
    )
    schedule: Literal["constant", "cosine", "linear"] | None = Field(
        None,
        description="Learning rate after the warm-up: constant, or to zero along a half cosine "
        "or a line.",
    )
    warmup: float | None = Field(
        None, ge=0, lt=1, description="Share of the samples over which the rate rises linearly."
    )
    samples: int | None = Field(None, ge=1, description="Training images seen in all.")


class TrainingSettings(Settings):
    """Recipe changes: `default` for all runs, then one per group, then one per run name."""

    default: Recipe = Field(Recipe(), description="Applies to every run.")
    groups: dict[Group, Recipe] = Field({}, description="Applies to the runs of a group.")
    runs: dict[str, Recipe] = Field({}, description="Applies to one run of config/runs.tsv.")


class FreySettings(Settings):
    """Frey Face has one public host; small presets may do without it."""

    fallback: Literal["none", "synthetic"] = Field(
        "synthetic",
        description="What to do when no source of Frey Face answers: `synthetic` draws a "
        "procedural face set (and every result says so), `none` stops with an error. `modern`, "
        "`faithful` and `paper` allow only `none`.",
    )


class OwnData(Settings):
    """Images of your own, see docs/data.md."""

    path: str = Field(
        description="A .npz file with the arrays `train` and `test`, and perhaps `train_labels` "
        "and `test_labels`."
    )


class DataSettings(Settings):
    """Where datasets come from and where they are kept."""

    root: str = Field("data", description="Folder of the datasets.")
    mirror: str | None = Field(
        None,
        description="A folder with mnist/ and frey/, tried before the public hosts. The "
        "variable VAELAB_DATA_MIRROR does the same.",
    )
    sources: dict[str, list[Annotated[str, Field(pattern=r"^(npm|https?://.+)$")]]] = Field(
        {}, description="URL folders that replace the public hosts of a dataset, in order."
    )
    frey: FreySettings = FreySettings()
    own: dict[str, OwnData] = Field(
        {}, description="Datasets of your own, by the names that the run table calls them."
    )


class HistorySettings(Settings):
    """What is logged during training, on fixed images with fixed noise."""

    points: int = Field(30, ge=2, description="Log-spaced evaluations, first and last included.")
    per_decade: int | None = Field(
        None,
        ge=1,
        description="Evaluations for each factor of ten in samples, from 1000 samples on, in place "
        "of `points`. A longer training then has those of a shorter one.",
    )
    images: int = Field(1000, ge=1, description="Training and test images, the same for all runs.")


class EvaluationSettings(Settings):
    """What is measured once per trained run."""

    images: int | None = Field(
        None, ge=1000, description="Only the first n images of each split; empty for all of them."
    )
    z_train: int = Field(1, ge=1, description="Latent samples per training image.")
    z_test: int = Field(5, ge=1, description="Latent samples per test image.")
    nll_images: int = Field(1000, ge=1, description="Test images whose log p(x) is estimated.")
    nll_samples: int = Field(100, ge=1, description="Importance samples per image.")
    generated: int = Field(2000, ge=100, description="Prior samples kept to judge generation.")


class LikelihoodSettings(Settings):
    """Figure 3: marginal likelihood over training, from snapshots of the weights."""

    snapshots: int = Field(16, ge=2, description="Snapshots, equally spaced in samples.")
    images: int = Field(1000, ge=1, description="Training and test images that stand for all.")
    curve_samples: int = Field(50, ge=1, description="Latent samples per image along the curve.")
    importance_samples: int = Field(
        100, ge=1, description="Latent samples per image of importance sampling along the curve."
    )
    final_samples: int = Field(
        1000, ge=1, description="Latent samples per image for the estimates at the end of training."
    )
    final_images: int = Field(
        100, ge=2, description="Images per split for all estimators at the end of training."
    )
    temperatures: int = Field(
        200, ge=2, description="Temperatures of annealed importance sampling."
    )
    chains: int = Field(4, ge=1, description="Annealed chains per image.")


class SearchSettings(Settings):
    """The search for the minimal architecture (report, section 5)."""

    recon: float = Field(120.0, gt=0, description="A good model's recon is at most this, nats.")
    kl: float = Field(10.0, gt=0, description="A good model's kl is at most this, nats.")
    metric: Literal["train", "test"] = Field(
        "train", description="The data the thresholds apply to; the report's are training numbers."
    )
    n_min: Literal[1, 2] = Field(2, description="Depth to start from; the report starts at 2.")
    n_max: int = Field(4, ge=2, le=8, description="Depth at which the search gives up.")
    width_max: int = Field(500, ge=1, description="Upper bound of every hidden width.")
    latent_max: int = Field(3, ge=1, description="Upper bound of the latent dimension.")
    resolution: int = Field(
        1,
        ge=1,
        description="A layer's search ends when fewer widths than this are left to try; 1, the "
        "report's, settles it exactly.",
    )
    speculate: int = Field(
        0, ge=0, le=4, description="Levels of the decision tree trained ahead of the decision."
    )


class ClassifierSettings(Settings):
    """The digit classifier behind the measures of generation."""

    epochs: int = Field(2, ge=1, description="Passes over the training images.")
    images: int | None = Field(
        None, ge=1000, description="Only the first n training images; empty for all 60 000."
    )


class Config(Settings):
    """The whole configuration."""

    preset: Preset = Field(
        "quick", description="Budget and recipe: a file of config/presets; names results/<preset>."
    )
    results: str = Field("results", description="Folder under which results/<preset> is written.")
    runs: str = Field(RUN_TABLE, description="The table of runs.")
    extensions: list[str] = Field(
        [],
        description="Python files that add model families, methods, datasets, estimators, figures "
        "and claims; relative to the file that names them, or to the working directory.",
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        [0], min_length=1, description="RNG seeds; with several, tables show mean and spread."
    )
    recipe_seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        [0, 1, 2], min_length=1, description="The same for the trainings of `table_recipe`."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto` takes a CUDA device where there is one, else the CPU."
    )
    runs_per_gpu: int = Field(
        1,
        ge=1,
        le=32,
        description="Runs that may share a CUDA device; small ones leave most of it idle.",
    )
    cuda_graphs: bool = Field(
        True,
        description="On a CUDA device, launch training steps many at a time. The results are the "
        "same either way.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="`auto` takes bf16 where the processor multiplies it fast, else fp32."
    )
    baselines: bool | list[str] = Field(
        True,
        description="Also train Kingma & Welling's wake-sleep and MCEM: all rows of the run table "
        "marked `baselines`, none of them, or those of a list of names.",
    )
    extras: bool = Field(
        False,
        description="Also train the rows of the run table marked `extras`: ablations, "
        "whose optimiser and rate no preset changes.",
    )
    checkpoint_seconds: float = Field(
        60.0, gt=0, description="Seconds between the resumable states of a training."
    )
    keep_states: bool = Field(
        False,
        description="Keep the state that a training ends with, so that a larger budget can go on "
        "from there (recipes whose learning rate is constant).",
    )
    require_cached: bool = Field(
        False, description="Turn any training into an error (after restoring checkpoints)."
    )
    headline: list[str] = Field(
        [],
        description="Runs whose weights `vaelab publish` also writes in half precision, small "
        "enough for git.",
    )
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    history: HistorySettings = HistorySettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    likelihood: LikelihoodSettings = LikelihoodSettings()
    search: SearchSettings = SearchSettings()
    classifier: ClassifierSettings = ClassifierSettings()

    @field_validator("baselines", mode="before")
    @classmethod
    def _switch_or_names(cls, value: object) -> object:
        # Snakemake's --config hands `true` over as text.
        if value in ("true", "false"):
            return value == "true"
        # Without this a wrong value gets one error for each of the two types.
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        if not isinstance(value, bool) and not names:
            raise ValueError("Input should be a valid boolean or a list of names of runs")
        return value

    @field_validator("seeds", "recipe_seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        # A repeated seed would be one training counted twice in every spread.
        if len(set(value)) < len(value):
            raise ValueError("every seed may be listed once")
        return value

    @property
    def folder(self) -> Path:
        """results/<preset>."""
        return Path(self.results) / self.preset

    @property
    def judged_elsewhere(self) -> list[Path]:
        """claims.csv of the other presets that have one: other recipes, same claims."""
        if self.preset == MEANINGLESS:
            return []
        return [
            path
            for path in sorted(Path(self.results).glob("*/claims.csv"))
            if path.parent.name not in (self.preset, MEANINGLESS)
        ]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Overlay `over` on `base`, mapping by mapping; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one layer of configuration.

    Raises:
        VaelabError: missing file, YAML syntax error, or a file that is not a mapping.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except FileNotFoundError as error:
        raise VaelabError(f"{path} does not exist") from error
    except yaml.YAMLError as error:
        raise VaelabError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise VaelabError(f"{path} must hold keys and values, not a {type(content).__name__}")
    return content


def preset_file(preset: object, root: Path = Path()) -> Path:
    """The overlay of a preset.

    Raises:
        VaelabError: there is no such preset; the message lists those there are.
    """
    path = root / PRESET_FOLDER / f"{preset}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (root / PRESET_FOLDER).glob("*.yaml"))
        raise VaelabError(f"unknown preset {preset!r}; config/presets has: {', '.join(known)}")
    return path


def load_config(
    files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    root: Path = Path(),
    *,
    defaults: Mapping[str, Any] | None = None,
    source: str = "--config",
) -> Config:
    """Read and validate the layers: config.yaml, the preset, `files`, then `overrides`.

    Args:
        files: overlays, in order.
        overrides: what is given on the command line, or by another workflow.
        root: the folder of the repository.
        defaults: values below those of config.yaml.
        source: what an error calls `overrides`.
    """
    top = [(str(f), _located(read_yaml(f), Path(f).parent)) for f in files]
    if overrides:
        top.append((source, dict(overrides)))
    own = _located(read_yaml(root / CONFIG_FILE), (root / CONFIG_FILE).parent)
    base = (str(CONFIG_FILE), {**(defaults or {}), **own})
    chosen: list[str] = [layer["preset"] for _, layer in [base, *top] if "preset" in layer]
    path = preset_file(chosen[-1] if chosen else Config().preset, root)
    preset = _located(read_yaml(path), path.parent)
    return validate([base, (str(path.relative_to(root)), preset), *top])


def _located(layer: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A layer whose extensions are named from the working directory, not from its own folder."""
    named = layer.get("extensions")
    if not isinstance(named, list):
        return layer
    beside = {name: str(folder / name) for name in named if (folder / str(name)).is_file()}
    return layer | {"extensions": [beside.get(name, name) for name in named]}


def validate(layers: Iterable[tuple[str, Mapping[str, Any]]]) -> Config:
    """Merge named layers and validate them.

    Raises:
        VaelabError: one line per problem: the layer that set the key, the key, what is wrong.
    """
    layers = list(layers)
    merged: dict[str, Any] = {}
    for _, layer in layers:
        merged = merge(merged, layer)
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        problems = explain(error, Config, lambda location: _setter(layers, location))
        raise VaelabError("The configuration is not valid.\n" + problems) from error
    if config.preset in PUBLISHED and config.data.frey.fallback != "none":
        setter = _setter(layers, ("data", "frey", "fallback"))
        raise VaelabError(
            f"The configuration is not valid.\n  {setter}: data.frey.fallback: preset "
            f"{config.preset} takes real faces only; allowed is none"
        )
    return config


def explain(
    error: ValidationError, model: type[BaseModel], source: Callable[[list[str]], str]
) -> str:
    """One line per problem of a pydantic error.

    Args:
        error: what was found.
        model: what was to be read.
        source: names the file of a location, the path of keys to a problem.
    """
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key; allowed are {', '.join(_siblings(model, location))}"
        elif not isinstance(problem["input"], Mapping):
            # Where keys are missing or do not go together, the input is all that surrounds them.
            message = f"{message} (got {problem['input']!r})"
        lines.append(
            "  " + ": ".join(filter(None, [source(location), ".".join(location), message]))
        )
    return "\n".join(lines)


def _siblings(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The keys that a model allows where the last key of `location` stands."""
    at: Any = model
    for part in location[:-1]:
        # Other than a model it is a mapping, whose values are all of one type.
        is_model = isinstance(at, type) and issubclass(at, BaseModel)
        at = at.model_fields[part].annotation if is_model else get_args(at)[1]
    return list(at.model_fields)


def _setter(layers: Sequence[tuple[str, Mapping[str, Any]]], location: Sequence[str]) -> str:
    """The last layer that sets the deepest key of `location` which any layer sets."""
    for depth in range(len(location), 0, -1):
        for name, layer in reversed(layers):
            if _sets(layer, location[:depth]):
                return str(name)
    return str(CONFIG_FILE)


def _sets(layer: Mapping[str, Any], location: Sequence[str]) -> bool:
    """Whether a layer has the key; an empty value counts."""
    value: Any = layer
    for part in location:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True
