"""`vaelab bench`: each benchmark as a command. They write to results/bench."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vaelab.cli import Group, configured
from vaelab.settings.config import Config


def _bench(measure: Callable[..., str], config: Config, **options: Any) -> None:
    """Run a benchmark and print its table; its files go to results/bench."""
    click.echo(measure(config, Path(config.results) / "bench", **options))


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(1), help="Rounds.")
@click.option(
    "--seconds",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Time of one measurement.",
)
@configured
@click.pass_context
def bench(context: click.Context, config: Config, repeats: int, seconds: float) -> None:
    """Measure the speed of training beside its bound and its rivals (results/bench).

    The subcommands measure other things.
    """
    # Progress goes to stderr, results to stdout; what a timed training reports goes nowhere.
    progress = logging.StreamHandler()
    progress.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("benchmarks")
    logger.handlers = [progress]
    logger.setLevel(logging.INFO)
    logging.getLogger("vaelab").setLevel(logging.WARNING)
    if context.invoked_subcommand is None:
        from benchmarks.speed import bench_speed

        _bench(bench_speed, config, rounds=repeats, seconds=seconds)


@bench.command()
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(2), help="Number of seeds."
)
@click.option(
    "--samples", default=100_000, show_default=True, type=click.IntRange(1), help="Per training."
)
@configured
def science(config: Config, seeds: int, samples: int) -> None:
    """Train [500, 500, 3] in bf16 and fp32: do they reach the same test -ELBO?"""
    from benchmarks.science import bench_science

    _bench(bench_science, config, seeds=range(seeds), samples=samples)


@bench.command()
@click.option(
    "--share",
    type=click.FloatRange(0, 0.3, min_open=True),
    help="Share of each training's samples to train; three times as much follows. Default: two "
    "minutes on one core. A GPU needs more.",
)
@configured
def preset(config: Config, share: float | None) -> None:
    """Extrapolate how long all trainings of a preset take here."""
    from benchmarks.presets import bench_preset

    _bench(bench_preset, config, share=share)


@bench.command()
@click.option("--cores", type=click.IntRange(1), help="Cores that the workflow had; default: all.")
@configured
def pipeline(config: Config, cores: int | None) -> None:
    """Show where the time of a finished preset went."""
    from benchmarks import machine
    from benchmarks.pipeline import bench_pipeline

    _bench(bench_pipeline, config, cores=cores or machine.cores())
