"""Tables of our own studies: the front of small networks, the recipe taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from result_folders import losses, write_run
from vaelab.output.page import searching
from vaelab.output.studies import table_front, table_recipe
from vaelab.output.tables import markdown, write_table
from vaelab.results.reader import Results
from vaelab.util.errors import VaelabError


def test_a_network_is_on_the_front_if_none_as_small_has_its_recon(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    for name, hidden, parameters, samples, recons in (
        ("front_50_50_3", [50, 50], 100, 1000, (125.0,)),
        ("front_100_50_3", [100, 50], 200, 1000, (119.0, 120.0)),
        ("front_150_50_3", [150, 50], 300, 1000, (121.0,)),
        ("front_500_3_x2", [500], 150, 2000, (119.5,)),
        ("arch_500_4", [500], 150, 1000, (110.0,)),
    ):
        for seed, recon in enumerate(recons):
            write_run(
                folder,
                name,
                seed,
                train=losses(recon, 11.0 if name == "arch_500_4" else 8.0),
                spec={"hidden": hidden, "latent_dim": 3},
                parameters=parameters,
                samples=samples,
            )
    names = ("front_50_50_3", "front_100_50_3", "front_150_50_3", "front_500_3_x2", "arch_500_4")
    frame = table_front(
        Results(folder, {"vae": ["vae-s0"]}, {name: [f"{name}-s0"] for name in names})
    )
    rows = frame.set_index("run")
    # By budget and size: 50-50-3, 500-4 with too large a KL, 100-50-3, 150-50-3; twice the budget.
    assert list(rows["front"]) == [True, False, True, False, True]
    assert list(rows["good"]) == [False, False, True, False, True]
    # Its second seed is on record, though no setting asks for it.
    assert rows.loc["front_100_50_3", "train_recon"] == 119.5
    assert rows.loc["front_100_50_3", "train_recon_spread"] == pytest.approx(0.5**0.5)
    assert list(rows["seeds"]) == [1, 1, 2, 1, 1]
    # The page draws the table: points and the front, budget by budget.
    assert searching.front(folder) is None
    write_table(frame, folder / "tables/table_front.csv", folder / "tables/table_front.md")
    points, line, *longer = searching.front(folder)["data"]
    assert points["x"] == [100, 150, 200, 300]
    assert points["marker"]["symbol"] == ["x", "x", "circle", "x"]
    assert points["error_y"]["array"] == pytest.approx([0.0, 0.0, 0.5**0.5, 0.0])
    assert (line["x"], line["y"]) == ([100, 200], [125.0, 119.5])
    assert [trace["name"] for trace in longer] == ["2000 samples"] * 2


def test_a_study_without_trainings_is_an_error(tmp_path: Path) -> None:
    results = Results(tmp_path / "modern", {"vae": ["vae-s0"]}, {})
    with pytest.raises(VaelabError, match="none of these runs with all.*: recipe_500_500_3_"):
        table_recipe(results)


def test_the_recipe_s_factors_are_compared_over_all_other_levels(tmp_path: Path) -> None:
    folder, ids = tmp_path / "modern", {}
    for init, better in (("normal", 0.0), ("default", 40.0)):
        for optimizer, gain in (("adagrad", 0.0), ("adam", 10.0)):
            for bias in (False, True):
                name = f"recipe_500_500_3_{init}_{optimizer}" + "_bias" * bias
                ids[name] = [f"{name}-s{seed}" for seed in (0, 1)]
                for seed in (0, 1):
                    write_run(
                        folder,
                        name,
                        seed,
                        train=losses(170.0 - better - gain + 2.0 * seed, 5.0),
                        spec={
                            "hidden": [500, 500],
                            "latent_dim": 3,
                            "init": init,
                            "optimizer": optimizer,
                            "output_bias": bias,
                        },
                    )
    frame = table_recipe(Results(folder, {}, ids))
    assert len(frame) == 8
    text = markdown(frame)
    # Two seeds 2 nats apart: sd 1.41; a difference of means of 8 trainings each: 0.71.
    assert "fan-in weights -40.0 ± 0.7; Adam -10.0 ± 0.7; an output bias +0.0 ± 0.7" in text
    assert "standard deviation over 2 seeds" in text
    assert "| [500, 500, 3] | " in text
    assert "| fan-in | Adam | yes | 2 | 121.0 ± 1.4 |" in text
