"""The command line: what it lists, what it prints, and errors without tracebacks."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from data_server import closed_url
from result_folders import losses, write_run
from vaelab import __version__
from vaelab.cli import CONFIG_VARIABLE, main
from vaelab.settings.config import Config, load_config
from vaelab.settings.runs import Run, resolve
from vaelab.settings.spec import RunSpec
from vaelab.util.io import write_json
from workflow_project import ROOT

COMMANDS = {
    *("fetch", "train", "evaluate", "classifier", "measure", "metrics", "figure", "table"),
    *("search", "claims", "review", "show", "yardstick", "bench", "restore", "publish"),
}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)


def vaelab(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def fails(*arguments: str) -> str:
    """The error of a command that a user got wrong: status 2, nothing printed, no traceback."""
    result = vaelab(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("vaelab: ")
    assert result.stderr.count("vaelab: ") == 1
    return result.stderr.removeprefix("vaelab: ")


# --- Help -----------------------------------------------------------------------------------


def test_help_lists_every_command_with_a_line_about_it() -> None:
    result = vaelab("--help")
    assert result.exit_code == 0
    listed = {
        line.split()[0]: line.split()[1:]
        for line in result.stdout.partition("Commands:")[2].splitlines()
        if line.strip()
    }
    assert set(listed) >= COMMANDS
    assert all(words for words in listed.values())


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself_and_takes_a_configuration(command: str) -> None:
    result = vaelab(command, "-h")
    assert result.exit_code == 0
    assert "--configfile" in result.stdout
    assert "--config KEY=VALUE" in result.stdout


def test_version() -> None:
    assert vaelab("--version").stdout.strip() == f"vaelab, version {__version__}"


def test_reading_the_configuration_does_not_import_torch() -> None:
    """Importing torch takes longer than most commands."""
    code = (
        "import sys; from click.testing import CliRunner; from vaelab.cli import main; "
        "result = CliRunner().invoke(main, ['show', 'table_1']); assert result.exit_code == 0; "
        "assert 'cvae_onehot-s0' in result.stdout; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- show -----------------------------------------------------------------------------------


def test_show_prints_the_resolved_configuration() -> None:
    result = vaelab("show", "--config", "preset=modern", "--config", "seeds=[0, 4]")
    assert result.exit_code == 0
    printed = Config.model_validate(yaml.safe_load(result.stdout))
    assert printed == load_config(overrides={"preset": "modern", "seeds": [0, 4]})
    assert printed.seeds == [0, 4]
    assert printed.training.default.optimizer == "adam"


def test_config_takes_several_values_like_that_of_snakemake() -> None:
    several = ("--config", "preset=modern", "seeds=[0, 4]", "history={points: 11}")
    printed = Config.model_validate(yaml.safe_load(vaelab("show", *several).stdout))
    assert (printed.preset, printed.seeds, printed.history.points) == ("modern", [0, 4], 11)
    # Before the names of runs as well as after them.
    assert list(shown(*several, "vae")) == list(shown("vae", *several)) == ["vae-s0", "vae-s4"]


def test_reports_are_plain_lines_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_runs(config: Config) -> None:
        logging.getLogger("vaelab.pipeline.planning").info("%s: %d runs", "quick", 3)
        logging.getLogger("vaelab.pipeline.planning").debug("not shown")

    monkeypatch.setattr("vaelab.cli.load_runs", load_runs)
    monkeypatch.setattr("vaelab.pipeline.summary.write_summary", lambda config, runs: None)
    monkeypatch.setattr("vaelab.cli._record", lambda config, target: None)
    # A second command in the same process repeats nothing.
    assert [vaelab("metrics").stdout for _ in range(2)] == ["quick: 3 runs\n"] * 2


def test_show_reads_files_in_order_and_adds_settings_up(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("history: {points: 11, images: 12}\n")
    second.write_text("history: {points: 13}\n")
    files = ("--configfile", str(first), "--configfile", str(second))
    result = vaelab("show", *files, "--config", "history={per_decade: 3}")
    history = yaml.safe_load(result.stdout)["history"]
    assert history == {"points": 13, "per_decade": 3, "images": 12}


def shown(*arguments: str) -> dict[str, RunSpec]:
    result = vaelab("show", "--config", "preset=paper", *arguments)
    assert result.exit_code == 0, result.stderr
    return {run: RunSpec.from_flat(spec) for run, spec in json.loads(result.stdout).items()}


def test_show_prints_the_spec_of_a_run() -> None:
    specs = shown("cvae_scalar")
    assert list(specs) == ["cvae_scalar-s0"]
    assert specs["cvae_scalar-s0"].model.condition == "scalar"
    assert specs["cvae_scalar-s0"].budget.samples == 120_000_000


def test_show_takes_ids_targets_and_several_seeds() -> None:
    assert list(shown("vae-s0", "beta5")) == ["vae-s0", "beta5-s0"]
    assert list(shown("figure_08")) == ["beta1-s0", "beta2-s0", "beta5-s0", "beta50-s0"]
    assert list(shown("figure_15", "--config", "seeds=[1, 2]")) == [
        *("arch_324_284_3-s1", "arch_324_284_3-s2"),
    ]
    assert shown("arch_9_8_7-s1")["arch_9_8_7-s1"].model.architecture == (9, 8, 7)


def test_workflow_hands_its_configuration_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = load_config(overrides={"preset": "smoke", "seeds": [8]})
    (tmp_path / "settings.json").write_text(resolved.model_dump_json())
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "settings.json"))
    printed = Config.model_validate(yaml.safe_load(vaelab("show").stdout))
    assert printed == resolved
    own = Config.model_validate(yaml.safe_load(vaelab("show", "--config", "seeds=[9]").stdout))
    assert (own.preset, own.seeds) == ("quick", [9])


# --- fetch, train, search -------------------------------------------------------------------


def test_fetch_tries_the_mirror_and_then_the_sources_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAELAB_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    source, mirror = closed_url(), tmp_path / "mirror"
    places = f"data={{root: {tmp_path}, mirror: {mirror}, sources: {{frey: ['{source}']}}}}"
    real = "data={frey: {fallback: none}}"
    result = vaelab("fetch", "frey", "--config", places, "--config", real)
    assert result.exit_code == 2
    mirrored, _, hosted = result.stdout.splitlines()
    assert mirrored.startswith(f"frey: {mirror}/frey/frey_rawface.mat: ")
    assert hosted.startswith(f"frey: {source}frey_rawface.mat: ")
    assert "no source gave good data" in result.stderr


def test_fetch_draws_faces_where_the_configuration_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAELAB_DATA_MIRROR", raising=False)
    settings = f"data={{root: {tmp_path}, sources: {{frey: []}}, frey: {{fallback: synthetic}}}}"
    result = vaelab("fetch", "frey", "--config", settings)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "raw/frey/source.json").read_text())["synthetic"] is True


def test_train_all_is_every_run_of_the_preset_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def work_on_runs(config: Config, runs: list[Run], *, evaluation: bool, **_: object) -> None:
        asked.extend(f"{run.id} of {config.preset}, {evaluation}" for run in runs)

    monkeypatch.setattr("vaelab.pipeline.runner.work_on_runs", work_on_runs)
    preset = ("--config", "preset=smoke", "--config", "seeds=[0, 1]")
    assert vaelab("train", "all", "--evaluate", *preset).exit_code == 0
    runs = resolve(load_config(overrides={"preset": "smoke", "seeds": [0, 1]}), ROOT)
    assert asked == [f"{run_id} of smoke, True" for run_id in runs.by_id]
    assert len(asked) > 100


def test_search_prints_the_decisions_so_far(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    write_json(
        folder / "search/step_0.json", {"measured": [], "probes": [[500, 3]], "answer": None}
    )
    write_json(
        folder / "search/step_1.json",
        {"measured": [[500, 3]], "probes": [[500, 500, 3]], "answer": None},
    )
    write_run(folder, "arch_500_3", train=losses(130.0, 8.0))
    result = vaelab("search", "--config", f"results={tmp_path}")
    assert result.exit_code == 0, result.stderr
    decision, following = result.stdout.splitlines()
    assert decision.startswith("  1  [500, 3]: recon 130.00 > 120: ")
    assert following == "next: [[500, 500, 3]]"


# --- Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "run"), [("train", "vea"), ("evaluate", "vea-s0"), ("show", "arch_500_x")]
)
def test_unknown_run_lists_the_known_ones(command: str, run: str) -> None:
    message = fails(command, run)
    assert run in message
    for known in ("mnist_d20", "vae", "vqvae", "arch_324_284_3"):
        assert known in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "sedes=[0]"], "--config: sedes: unknown key"),
        (["--config", "seeds"], "--config seeds: write KEY=VALUE"),
        (["--config", "seeds=[0"], "--config seeds=[0: not valid YAML"),
        (["--config", "preset=huge"], "unknown preset 'huge'; config/presets has: "),
        (["--configfile", "absent.yaml"], "absent.yaml does not exist"),
        (["--configfile", "config/runs.tsv"], "config/runs.tsv"),
        (["--config", "runs=absent.tsv"], "absent.tsv does not exist"),
        (["--config", "training={runs: {vea: {samples: 1}}}"], "training.runs names vea"),
    ],
)
def test_bad_configuration_is_one_readable_message(arguments: list[str], expected: str) -> None:
    message = fails("show", "vae", *arguments)
    assert expected in message
    assert len(message.splitlines()) < 10


def test_bad_configuration_stops_a_command_before_it_starts(tmp_path: Path) -> None:
    results = tmp_path / "results"
    message = fails("train", "vae", "--config", f"results={results}", "--config", "seeds=[-1]")
    assert "greater than or equal to 0" in message
    assert not results.exists()


@pytest.mark.parametrize(
    "command",
    [["evaluate", "vae"], ["figure", "6"], ["table", "1"], ["search"], ["search", "--summary"]],
)
def test_missing_results_are_named(command: list[str], tmp_path: Path) -> None:
    message = fails(*command, "--config", f"results={tmp_path}")
    assert str(tmp_path) in message or "snakemake" in message


def test_missing_data_say_how_to_get_them(tmp_path: Path) -> None:
    message = fails(
        "train", "vae", "--config", f"results={tmp_path}", "--config", f"data={{root: {tmp_path}}}"
    )
    assert "vaelab fetch mnist" in message


@pytest.mark.parametrize("arguments", [["figure", "0"], ["figure", "one"], ["train"]])
def test_arguments_out_of_range_are_usage_errors(arguments: list[str]) -> None:
    result = vaelab(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "cifar"], "there is no dataset named 'cifar'; known: mnist"),
        (("figure", "16"), "there is no figure or table named 'figure_16'; known: figure_1"),
        (("table", "4"), "there is no figure or table named 'table_4'; known: table_3, table_2"),
        (("table", "one"), "there is no figure or table named 'table_one'; known: table_"),
    ],
)
def test_figures_and_tables_that_the_report_lacks(arguments: tuple[str, str], message: str) -> None:
    assert message in fails(*arguments)


def test_bugs_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only errors that users can act on lose their traceback."""
    monkeypatch.setattr("vaelab.cli.load_runs", lambda config: 1 / 0)
    assert isinstance(vaelab("show", "vae").exception, ZeroDivisionError)
