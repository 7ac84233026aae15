"""The registries of families and methods: what they refuse, and what a training costs."""

from __future__ import annotations

from pkgutil import resolve_name

import pytest

from toys import toy_spec, toy_vqvae_spec
from vaelab.models.families import FAMILIES, build, family_of
from vaelab.settings.spec import MODEL_PARTS, RunSpec
from vaelab.training.methods import METHODS, check, gradients_for, training_cost
from vaelab.util.errors import VaelabError

IMPOSSIBLE = {
    "dataset": (toy_spec(dataset="cifar"), "cifar.*known"),
    "subset": (toy_spec(train_subset=60_001), "train_subset is at most 60000 on mnist"),
    "faces": (toy_spec(dataset="frey", train_subset=1566), "at most 1565 on frey"),
    "labels": (
        toy_spec(dataset="frey", condition="onehot"),
        "Frey Face has no labels to condition on",
    ),
    "method": (toy_spec(method="em"), "no training method named 'em'; known: "),
    "condition": (toy_spec(method="mcem", condition="onehot"), "mcem trains unconditional VAEs"),
    "family": (toy_vqvae_spec(method="wake_sleep"), "wake_sleep trains unconditional VAEs"),
    "beta": (toy_spec(method="mcem", beta=2.0), "no KL term to weigh; beta must be 1"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_does_not_go_together_is_refused(name: str) -> None:
    spec, message = IMPOSSIBLE[name]
    with pytest.raises(VaelabError, match=message):
        check(spec)


@pytest.mark.parametrize(
    "spec",
    [toy_spec(), toy_spec(dataset="frey"), toy_vqvae_spec(), toy_vqvae_spec(dataset="frey")],
)
def test_what_goes_together_passes(spec: RunSpec) -> None:
    check(spec)


def test_families_and_model_parts_are_the_same_names() -> None:
    assert {name: family.part for name, family in FAMILIES.items()} == dict(MODEL_PARTS)


@pytest.mark.parametrize("name", FAMILIES)
def test_names_of_a_family_lead_to_its_implementation(name: str) -> None:
    assert resolve_name(FAMILIES[name].network)
    assert resolve_name(FAMILIES[name].evaluation)


@pytest.mark.parametrize("name", METHODS)
def test_names_of_a_method_lead_to_its_gradients(name: str) -> None:
    model = build(toy_spec())
    assert gradients_for(name, model).serves(model)


def test_labels_are_the_reports() -> None:
    specs = [
        toy_spec(),
        toy_spec(beta=2.0),
        toy_spec(condition="scalar"),
        toy_vqvae_spec(),
    ]
    assert [family_of(s).label(s) for s in specs] == ["VAE", "BVAE", "CVAE", "VQ-VAE"]


def test_cost_is_that_of_family_method_and_budget() -> None:
    spec = toy_spec(hidden=(500,), latent_dim=20, trunks="shared", samples=1000)
    adds, kernels = training_cost(spec)
    assert adds == 1000 * 2 * (784 * 500 + 500 * 20)
    assert kernels == 10 * 50
    assert training_cost(spec.changed(method="mcem")).multiply_adds == 9 * adds
    assert training_cost(spec.changed(samples=2000)).kernels == 2 * kernels
    assert training_cost(toy_vqvae_spec(samples=1000)).multiply_adds == 15e9
