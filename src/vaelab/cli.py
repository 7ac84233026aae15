"""The command line: every step of the workflow as a command of its own.

Settings come from the layers of `vaelab.settings.config`; inside the workflow Snakemake hands the
resolved configuration over in a file, which VAELAB_CONFIG names. Heavy modules are imported inside
the commands: importing torch takes longer than drawing a figure.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from vaelab import __version__
from vaelab.data import DATASETS
from vaelab.pipeline.planning import Plan, load_runs, needed_datasets
from vaelab.results.files import RunFiles
from vaelab.settings.config import Config, load_config, merge
from vaelab.settings.runs import Run
from vaelab.util.errors import VaelabError
from vaelab.util.io import CHECKOUT, in_words, read_json, usable_caches
from vaelab.util.progress import BarHandler

if TYPE_CHECKING:
    from vaelab.results.reader import Results

logger = logging.getLogger(__name__)

CONFIG_VARIABLE = "VAELAB_CONFIG"


class Command(click.Command):
    """Lets `--config` take several values, as Snakemake's does: `--config a=1 b=2`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each further value; no other argument has a `=` in it."""
        spread: list[str] = []
        before = taking = None
        for argument in args:
            value = not argument.startswith("-") and "=" in argument
            taking = value and (taking or before == "--config")
            if taking and before != "--config":
                spread.append("--config")
            spread.append(argument)
            before = argument
        return super().parse_args(ctx, spread)


class Group(click.Group):
    """Prints a VaelabError, or one of the file system, as one message; status 2."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a VaelabError ends it with its message alone."""
        try:
            return super().invoke(ctx)
        except VaelabError as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {in_words(error)}" if error.filename else in_words(error)
        click.echo(f"vaelab: {message}", err=True)
        ctx.exit(2)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vaelab")
def main() -> None:
    """Reproduce a technical report on variational autoencoders, step by step.

    `snakemake --cores 8 all` runs all steps in order; each command below runs one of them.
    """
    # Modules live as long as the process; looking for garbage among them, while they load and at
    # the end, takes a third of the time that importing torch does.
    gc.set_threshold(100_000, 20, 100)
    atexit.register(gc.freeze)
    configure_logging()
    usable_caches()


def configure_logging() -> None:
    """Print what the package reports as plain lines on stdout; trainings as bars on a terminal."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    handler = BarHandler() if terminal else logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("vaelab")
    # In place of those of an earlier call in the same process, whose stdout may be closed.
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --configfile and --config, and the Config they make."""

    @click.option(
        "--configfile",
        "files",
        multiple=True,
        type=click.Path(dir_okay=False),
        help="Overlay on config/config.yaml, e.g. config/presets/paper.yaml; repeatable.",
    )
    @click.option(
        "--config",
        "values",
        multiple=True,
        metavar="KEY=VALUE",
        help="Settings as YAML, e.g. preset=modern 'seeds=[0, 1]'; repeatable.",
    )
    @functools.wraps(command)
    def wrapped(files: Sequence[str], values: Sequence[str], **arguments: Any) -> None:
        command(config=_config(files, values), **arguments)

    return wrapped


def _config(files: Sequence[str], values: Sequence[str]) -> Config:
    handed_over = os.environ.get(CONFIG_VARIABLE)
    if handed_over and not files and not values:
        return Config.model_validate(read_json(handed_over))
    overrides: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise VaelabError(f"--config {value}: write KEY=VALUE")
        try:
            overrides = merge(overrides, {key: yaml.safe_load(text)})
        except yaml.YAMLError as error:
            raise VaelabError(f"--config {value}: not valid YAML: {error}") from error
    return load_config(files, overrides)


def _runs(config: Config, names: Sequence[str]) -> list[Run]:
    """Runs by id (vae-s0) or by name (vae: every seed; all: every run of the table)."""
    runs = load_runs(config)
    if "all" in names:
        return list(runs.by_id.values())
    ids = [i for name in names for i in ([name] if "-s" in name else runs.ids([name]))]
    return [runs.run(run_id) for run_id in ids]


def _results(config: Config) -> Results:
    from vaelab.results.reader import Results

    runs = load_runs(config)
    return Results(config.folder, runs.alias, runs.apart_alias)


def _record(config: Config, target: str) -> None:
    from vaelab.pipeline.recording import record

    record(Plan(config, load_runs(config)), target)


def _tell(config: Config, runs: Sequence[Run]) -> None:
    """Tell Snakemake of evaluated runs, where there is a workflow and this is no job of it."""
    workflows = (Path("Snakefile"), Path("workflow/Snakefile"))
    if CONFIG_VARIABLE in os.environ or not any(path.is_file() for path in workflows):
        return
    from vaelab.results.told import tell_snakemake

    try:
        tell_snakemake(config, [RunFiles(config.folder, run.id).checkpoint for run in runs])
    except VaelabError as error:
        logger.warning(
            f"{error}\nThe results are fine, but Snakemake will not notice if settings of these "
            "runs change. Give the command again to tell it."
        )


threads_option = click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads."
)


@main.command()
@click.argument("datasets", nargs=-1)
@configured
def fetch(config: Config, datasets: Sequence[str]) -> None:
    """Download and verify DATASETS (default: those of the run table) into data/raw."""
    from vaelab.data import fetch_dataset

    runs = load_runs(config)
    for name in datasets or needed_datasets(runs):
        if DATASETS[name].own:
            continue
        fetch_dataset(
            name,
            Path(config.data.root),
            mirror=config.data.mirror,
            base_urls=config.data.sources or None,
            fallback=config.data.frey.fallback if DATASETS[name].stand_in else "none",
        )


@main.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--evaluate/--no-evaluate", help="Also evaluate, in the same process.")
@threads_option
@configured
def train(config: Config, runs: Sequence[str], evaluate: bool, threads: int) -> None:
    """Train RUNS (names of config/runs.tsv, ids such as vae-s0, or `all`).

    Each GPU trains `runs_per_gpu` of them at once.
    """
    chosen = _runs(config, runs)
    from vaelab.pipeline.runner import work_on_runs

    work_on_runs(config, chosen, evaluation=evaluate, threads=threads)
    if evaluate:
        _tell(config, chosen)


@main.command()
@click.argument("runs", nargs=-1, required=True)
@threads_option
@configured
def evaluate(config: Config, runs: Sequence[str], threads: int) -> None:
    """Measure trained RUNS: bounds, log-likelihoods, image grids, latent codes."""
    chosen = _runs(config, runs)
    from vaelab.pipeline.runner import work_on_runs

    work_on_runs(config, chosen, training=False, threads=threads)
    _tell(config, chosen)


@main.command()
@threads_option
@configured
def classifier(config: Config, threads: int) -> None:
    """Train the digit classifier that judges generated images."""
    from vaelab.evaluation.quality import train_and_save_classifier

    train_and_save_classifier(config, threads=threads)
    _record(config, "classifier")


@main.command()
@threads_option
@configured
def measure(config: Config, threads: int) -> None:
    """Measure what the report does not: generated images, latent spaces (measures.json)."""
    from vaelab.evaluation.quality import measure_all

    measure_all(config, load_runs(config), threads=threads)
    _record(config, "measures")


@main.command()
@threads_option
@configured
def nll(config: Config, threads: int) -> None:
    """Estimate -log p(x) of Table 1's models from fitted posteriors (nll.json)."""
    from vaelab.pipeline.nll import write_nll

    write_nll(config, load_runs(config), threads=threads)
    _record(config, "nll")


@main.command()
@configured
def metrics(config: Config) -> None:
    """Collect every headline number of all runs in metrics.json."""
    from vaelab.pipeline.summary import write_summary

    write_summary(config, load_runs(config))
    _record(config, "metrics")


@main.command()
@click.argument("number", type=click.IntRange(1))
@configured
def figure(config: Config, number: int) -> None:
    """Draw figure NUMBER from evaluated runs."""
    from vaelab.output.writing import write

    click.echo(write(f"figure_{number:02d}", _results(config)))
    _record(config, f"figure_{number:02d}")


@main.command()
@click.argument("name", metavar="[NUMBER | likelihood]")
@configured
def table(config: Config, name: str) -> None:
    """Write a table from evaluated runs: .csv and .md, and Table 3's pictures.

    NUMBER is the report's; the others are companions and studies of our own.
    """
    from vaelab.output.writing import write

    click.echo(write(f"table_{name}", _results(config)))
    _record(config, f"table_{name}")


@main.command()
@click.option("--step", type=click.IntRange(0), help="Decide what step STEP trains.")
@click.option("--summary", is_flag=True, help="Write decisions.json from the last step.")
@configured
def search(config: Config, step: int | None, summary: bool) -> None:
    """Decide the next probes of the search for the minimal architecture, or sum it up.

    Without options: print the decisions so far.
    """
    from vaelab.pipeline.search_steps import print_decisions, write_step, write_summary
    from vaelab.results.manifest import put_on_record

    runs = load_runs(config)
    if step is not None:
        write_step(config, runs, step)
        put_on_record(config.folder, [f"search/step_{step}.json"])
    elif summary:
        write_summary(config, runs)
        _record(config, "search")
    else:
        print_decisions(config, runs)


@main.command()
@configured
def claims(config: Config) -> None:
    """Judge every claim of the report (claims.csv and .md)."""
    from vaelab.original.claims import Evidence, claims_frame
    from vaelab.output.tables import write_claims

    frame = claims_frame(Evidence.load(_results(config)))
    write_claims(frame, config.folder, config.judged_elsewhere)
    _record(config, "claims")
    for verdict, count in frame["verdict"].value_counts().items():
        click.echo(f"{count} {verdict}")


@main.command()
@configured
def spread(config: Config) -> None:
    """Print how much trainings of a network differ, by family, from the records (CSV)."""
    import csv
    import sys

    from vaelab.original.claims import Evidence
    from vaelab.output.catalogue import RECIPES
    from vaelab.search.spread import COLUMNS, recorded, rows

    found = recorded(config.folder, Evidence.load(_results(config)).measures, RECIPES)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows([COLUMNS, *rows(found, config.folder.name)])


@main.command()
@configured
def review(config: Config) -> None:
    """Build the results page (index.html)."""
    from vaelab.output.page.collect import write_page

    click.echo(write_page(config, _results(config)))
    _record(config, "page")


@main.command()
@click.option(
    "--images", default=10_000, show_default=True, type=click.IntRange(2), help="Test images."
)
@click.option(
    "--samples", default=5000, show_default=True, type=click.IntRange(1), help="Samples per image."
)
@threads_option
@configured
def yardstick(config: Config, images: int, samples: int, threads: int) -> None:
    """Train the VAE of Burda et al. and set its test NLL beside the literature's.

    About 20 minutes on one core. A training that was stopped goes on where it was.
    """
    from vaelab.pipeline.runner import train_run
    from vaelab.pipeline.yardstick import NAME, measure_yardstick

    first, *_ = _runs(config, [NAME])
    train_run(config, first, threads=threads)
    measure_yardstick(config, first, images=images, samples=samples, threads=threads)


def _output(ending: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option that names the file to write."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"Default: vaelab-<preset>.{ending}.",
    )


@main.command()
@_output("tar")
@configured
def bundle(config: Config, output: Path | None) -> None:
    """Write one file with a preset's weights, arrays and records, and their hashes."""
    from vaelab.publishing.bundle import write_bundle

    target = output or Path(f"vaelab-{config.preset}.tar")
    write_bundle(config, load_runs(config), target)
    click.echo(target)


@main.command()
@_output("crate.zip")
@configured
def crate(config: Config, output: Path | None) -> None:
    """Write an RO-Crate of a preset: figures, tables, records, and what made them."""
    from vaelab.publishing.crate import write_crate

    target = output or Path(f"vaelab-{config.preset}.crate.zip")
    write_crate(config, target)
    click.echo(target)


@main.command()
@configured
def verify(config: Config) -> None:
    """Check every file of a preset's results against the hashes on record; status 1 if one is off.

    Names what is damaged, missing, stale or from other settings. Changes nothing.
    """
    from vaelab.pipeline.recording import verified

    problems, unknown = verified(Plan(config, load_runs(config)))
    for line in problems:
        click.echo(line)
    if unknown:
        click.echo(f"no hash on record: {len(unknown)} files, such as {unknown[0]}")
    click.echo(f"{config.folder}: {len(problems)} problems")
    if problems:
        raise SystemExit(1)


@main.command()
@click.option("--from", "source", metavar="FILE|URL|DOI", help="A bundle, in place of the remote.")
@configured
def restore(config: Config, source: str | None) -> None:
    """Bring published weights, arrays and datasets from the DVC remote, verified.

    A bundle has no datasets. Of a DOI on Zenodo or figshare, its one .tar file is taken.
    """
    from vaelab.publishing.restore import restore

    restore(config, load_runs(config), source)


@main.command()
@click.option("--models", is_flag=True, help="Write the headline models in half precision alone.")
@configured
def publish(config: Config, models: bool) -> None:
    """Version the results of a preset with DVC and push them to the remote.

    The headline models are also written in half precision, for git.
    """
    from vaelab.pipeline.headline import write_headline_models
    from vaelab.publishing.publish import publish

    runs = load_runs(config)
    write_headline_models(config, runs)
    if not models:
        publish(config, runs)


@main.command()
@click.argument("targets", nargs=-1, metavar="[RUN | figure_NN | table_N]...")
@configured
def show(config: Config, targets: Sequence[str]) -> None:
    """Print the resolved configuration, or the resolved specs of runs and targets."""
    if not targets:
        click.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), nl=False)
        return
    runs = load_runs(config)
    from vaelab.output.catalogue import CATALOGUE

    shown = {
        t: CATALOGUE[t].among([*runs.alias, *runs.apart_alias]) if t in CATALOGUE else (t,)
        for t in targets
    }
    names = [name for target in targets for name in shown[target]]
    specs = {run.id: run.spec.flat() for run in _runs(config, names)}
    click.echo(json.dumps(specs, indent=2))


@main.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: Sequence[str]) -> None:
    """Measure the speed of training beside its bound and its peers (results/bench).

    The benchmarks are a folder of the repository, no part of the package.
    """
    if not (CHECKOUT / "benchmarks").is_dir():
        raise VaelabError("vaelab bench needs the repository: its folder benchmarks is not there")
    sys.path.insert(0, str(CHECKOUT))
    from benchmarks.cli import bench as command

    command.main(list(arguments), prog_name="vaelab bench")


@main.command()
@click.option("--write", is_flag=True, help="Write the files.")
def schema(write: bool) -> None:
    """Check the files that repeat the settings: the JSON schema and config/README.md.

    They are generated from the models in the code; --write brings them up to date.
    """
    from vaelab.settings.schema import outdated, write_documents

    if write:
        for path in write_documents():
            click.echo(path)
    elif stale := outdated():
        raise VaelabError(f"out of date: {', '.join(map(str, stale))}; run `vaelab schema --write`")


if __name__ == "__main__":
    main()
