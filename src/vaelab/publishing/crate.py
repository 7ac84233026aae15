"""An RO-Crate of a preset: what was run with what, in the words of archives and catalogues.

It follows the Workflow Run RO-Crate profile 0.5: one action for the workflow, which read the
settings and wrote figures, tables and claims, and one for each training, from its provenance.json.
Weights and arrays are not in it; the hashes of the weights are (`vaelab bundle` has the files).
"""

from __future__ import annotations

from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from vaelab import __version__
from vaelab.data import DATASETS
from vaelab.results.files import RunFiles
from vaelab.settings.config import Config
from vaelab.util.errors import VaelabError
from vaelab.util.io import CHECKOUT, atomic_path, file_sha256, read_json

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
# Terms that RO-Crate's own context lacks, among them sha256.
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
REPORTED = (
    *("figures/*", "tables/*", "search/*"),
    *("claims.*", "metrics.json", "measures.json", "nll.json"),
)
OF_A_RUN = ("history.csv", "metrics.json", "provenance.json")
MEDIA = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tsv": "text/tab-separated-values",
    ".yaml": "application/yaml",
}


def write_crate(config: Config, target: Path) -> None:
    """Write the crate of a preset's results as a zip file.

    Raises:
        VaelabError: the preset has no results, this is not a checkout of the repository, or the
            file's name does not end in .zip.
    """
    if target.suffix != ".zip":
        raise VaelabError(f"{target}: a crate is a zip file, so its name should end in .zip")
    if not (CHECKOUT / "workflow/Snakefile").is_file():
        raise VaelabError("a crate has the workflow in it: vaelab crate needs the repository")
    runs = sorted(path.parent.name for path in config.folder.glob("runs/*/provenance.json"))
    if not runs:
        raise VaelabError(f"{config.folder} has no trained runs")
    crate = _Crate(config)
    made = [p for pattern in REPORTED for p in sorted(config.folder.glob(pattern)) if p.is_file()]
    results = [crate.file(path, f"results/{config.preset}") for path in made]
    crate.add_named_action(
        crate.mainEntity,
        "#workflow",
        f"The workflow in the preset {config.preset}",
        f"{len(runs)} trained runs, and the figures, tables and claims made of them",
        [*crate.settings, crate.preset],
        results,
    )
    for run_id in runs:
        crate.add_run(run_id)
    with atomic_path(target) as temporary:
        crate.write_zip(temporary)


class _Crate(ROCrate):  # type: ignore[misc]
    """The crate with the workflow and its settings, ready for actions."""

    def __init__(self, config: Config) -> None:
        super().__init__(version="1.1")
        self.config = config
        self.metadata.extra_contexts.append(TERMS)
        self.name = f"vaelab, preset {config.preset}"
        self.description = (
            "Every figure, table and claim of a technical report on variational autoencoders, "
            f"computed again from raw data in the preset {config.preset}."
        )
        self.license = "https://spdx.org/licenses/MIT"
        workflow = self.add_workflow(
            CHECKOUT / "workflow/Snakefile",
            "workflow/Snakefile",
            main=True,
            lang="snakemake",
            properties={
                "name": "vaelab",
                "version": __version__,
                "license": self.license,
                "encodingFormat": "text/x-python",
            },
        )
        for url, name in PROFILES.items():
            properties = {"@type": "CreativeWork", "name": name, "version": url.rpartition("/")[2]}
            profile = self.add(ContextEntity(self, url, properties))
            self.root_dataset.append_to("conformsTo", profile)
        parameter = self.add_formal_parameter(
            "preset", "Text", "#preset", "Budget and recipe of the runs."
        )
        workflow["input"] = parameter
        self.preset = self.add(
            ContextEntity(
                self,
                "#preset-value",
                {"@type": "PropertyValue", "name": "preset", "value": config.preset},
            )
        )
        self.preset["exampleOfWork"] = parameter
        paths = ["config.yaml", "runs.tsv", f"presets/{config.preset}.yaml"]
        self.settings = [self.file(CHECKOUT / "config" / path, "config") for path in paths]

    def file(self, path: Path, folder: str) -> Entity:
        """Put a file below a folder of the crate, under the path it has in the repository."""
        inside = path.relative_to(self.config.folder if folder != "config" else CHECKOUT / folder)
        properties = {
            "name": path.name,
            "encodingFormat": MEDIA.get(path.suffix, "text/plain"),
            "contentSize": str(path.stat().st_size),
            "sha256": file_sha256(path),
        }
        return self.add_file(path, f"{folder}/{inside}", properties=properties)

    def add_run(self, run_id: str) -> None:
        """Add the training of a run: the software, its data, and the files that it wrote."""
        files = RunFiles(self.config.folder, run_id)
        record = read_json(files.text("provenance.json"))
        versions = record["versions"]
        revision = record["git"]["revision"] or "unknown"
        software = f"#vaelab-{revision}"
        if not self.get(software):
            properties = {
                "@type": "SoftwareApplication",
                "name": "vaelab train",
                "softwareVersion": f"{versions['vaelab']}, revision {revision}",
                "softwareRequirements": [f"{name} {version}" for name, version in versions.items()],
            }
            self.add(ContextEntity(self, software, properties))
        data = record["dataset"]
        dataset = f"#{data['name']}-{data['sha256'][:12]}"
        if not self.get(dataset):
            title = DATASETS[data["name"]].title if data["name"] in DATASETS else data["name"]
            properties = {"@type": "CreativeWork", "name": title, "sha256": data["sha256"]}
            self.add(ContextEntity(self, dataset, properties))
        written = [files.text(name) for name in OF_A_RUN if files.text(name).is_file()]
        self.add_named_action(
            self.get(software),
            f"#{run_id}",
            f"Training and evaluation of {run_id}",
            f"seed {record['seed']}, {record['samples']} samples on {record['device']} in "
            f"{record['precision']}, {record['train_seconds']:.0f} s; checkpoint SHA-256 "
            f"{record['checkpoint_sha256']}, fingerprint {record['fingerprint']}",
            [self.get(dataset), *self.settings],
            [self.file(path, f"results/{self.config.preset}") for path in written],
        )

    def add_named_action(
        self,
        instrument: Entity,
        identifier: str,
        name: str,
        description: str,
        read: list[Entity],
        written: list[Entity],
    ) -> None:
        """Add an action, which the crate as a whole mentions."""
        properties = {"name": name, "description": description}
        action = self.add_action(instrument, identifier, read, written, properties)
        self.root_dataset.append_to("mentions", action)
