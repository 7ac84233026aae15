"""The registry: names, order, and what is said of an unknown one."""

import pytest

from vaelab.util.errors import VaelabError
from vaelab.util.registry import Registry


@pytest.fixture
def colours():
    registry = Registry("colour")
    for number, name in enumerate(("red", "green", "grey")):
        registry.add(name, number)
    return registry


def test_entries_come_back_by_name_and_in_order(colours):
    assert colours["green"] == 1
    assert list(colours.items()) == [("red", 0), ("green", 1), ("grey", 2)]
    assert "red" in colours
    assert "blue" not in colours
    assert colours.get("blue") is None


def test_an_unknown_name_is_answered_with_the_known_ones_nearest_first(colours):
    with pytest.raises(VaelabError, match="no colour named 'gray'; known: grey, red, green"):
        colours["gray"]
    assert str(colours.unknown("xyz")).endswith("known: red, green, grey")


def test_a_name_is_taken_once_and_can_be_removed(colours):
    with pytest.raises(VaelabError, match="already a colour named 'red'"):
        colours.add("red", 5)
    colours.remove("red")
    assert "red" not in colours
