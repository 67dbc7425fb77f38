"""What classes are called on the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gigraph.errors import UserError
from gigraph.explorer import Inputs, build
from gigraph.images.naming import find_class, shown_names


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["cheetah", "zebu"], ["cheetah", "zebu"]),
        (["sea_lion", "zebu"], ["sea lion", "zebu"]),
        (["n01440764_tench", "n01484850_great_white_shark"], ["tench", "great white shark"]),
        (["001.Black_footed_Albatross", "002.Sooty"], ["Black footed Albatross", "Sooty"]),
        (["n01440764_tench", "goldfish"], ["n01440764 tench", "goldfish"]),  # not all have one
        (["n01440764_tench", "x01443537_goldfish"], ["n01440764 tench", "x01443537 goldfish"]),  # not of one form
        (["n02012849_crane", "n03126707_crane", "n01440764_tench"], ["n02012849 crane", "n03126707 crane", "tench"]),
        (["n01440764", "n01443537_goldfish"], ["n01440764", "goldfish"]),
        (["10_km", "20_km"], ["10 km", "20 km"]),
        (["4_doors", "2_wheels"], ["4 doors", "2 wheels"]),  # one digit is no code
        (["a_b", "a b", "c_d"], ["a_b", "a b", "c d"]),
        (["", "_", "twice", "twice", "moth\u2028"], ["", "_", "twice", "twice", "moth\u2028"]),
    ],
)
def test_names_lose_what_tells_nothing(names: list[str], shown: list[str]):
    assert shown_names(names, {}) == shown


def test_given_names_come_first():
    names = ["n01440764_tench", "n01443537_goldfish"]
    assert shown_names(names, {"n01440764_tench": "doctor_fish"}) == ["doctor_fish", "goldfish"]


def test_a_class_is_found_by_its_name_and_by_what_it_is_called():
    names = ["n02012849_crane", "n03126707_crane", "n01440764_tench", "tench", "n01484850_great_white_shark"]
    assert [find_class(name, names) for name in names] == [0, 1, 2, 3, 4]
    names = ["n02012849_crane", "n03126707_crane", "n01440764_tench", "n01484850_great_white_shark"]
    assert [find_class(name, names) for name in ("tench", "great white shark", "n02012849 crane")] == [2, 3, 0]
    assert find_class("crane", names) is None and find_class("Tench", names) is None
    given = {"n01440764_tench": "fish", "n02012849_crane": "bird", "n03126707_crane": "bird"}
    assert find_class("fish", names, given) == 2 and find_class("n01440764_tench", names, given) == 2
    assert find_class("tench", names, given) is None and find_class("bird", names, given) is None


def test_a_name_that_no_class_has_is_refused_in_one_line(inputs: Inputs, tmp_path: Path):
    with pytest.raises(UserError, match=r"^explorer\.names: there is no class 'cheeta'; did you mean cheetah\?$"):
        build(dataclasses.replace(inputs, names={"cheeta": "Cheetah"}), tmp_path / "site")
