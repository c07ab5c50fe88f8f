"""Layers with the origin of each key, overrides, interpolation and bounds, each by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs
import pytest

from cosmos_core.config.bounds import Bounds
from cosmos_core.config.document import Location, problem_at
from cosmos_core.config.fields import bounds_of, default_of, on_resume_of, option, required, section
from cosmos_core.config.interpolate import interpolate
from cosmos_core.config.locate import key_text
from cosmos_core.config.merge import Layer, assign, merge, unset
from cosmos_core.config.overrides import Override, parse_key, parse_overrides, parse_value
from cosmos_core.errors import UserError

OLD, NEW = Location("old.toml", 3), Location("new.toml", 5)
LOWER = Layer(
    {"a": {"b": 1, "c": {"d": 2}}, "list": [1, 2], "x": 1},
    {("a",): OLD, ("a", "b"): OLD, ("a", "c"): OLD, ("a", "c", "d"): OLD, ("list",): OLD, ("x",): OLD},
)


def test_tables_merge_and_all_else_is_replaced_with_its_origin() -> None:
    upper = Layer(
        {"a": {"c": {"e": 3}}, "list": [9], "new": {"f": 4}},
        {("a",): NEW, ("a", "c"): NEW, ("a", "c", "e"): NEW, ("list",): NEW, ("new",): NEW, ("new", "f"): NEW},
    )
    merged = merge(LOWER, upper)
    assert merged.values == {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "list": [9], "x": 1, "new": {"f": 4}}
    newer = {("a", "c", "e"): NEW, ("list",): NEW, ("new",): NEW, ("new", "f"): NEW}
    assert merged.provenance == {**LOWER.provenance, **newer}


@pytest.mark.parametrize("value", [5, {"z": 1}])
def test_a_table_and_a_scalar_replace_each_other_with_all_their_origins(value: Any) -> None:
    lower = LOWER if value == 5 else Layer({"a": 5}, {("a",): OLD})
    merged = merge(lower, Layer({"a": value}, {("a",): NEW}))
    assert merged.values["a"] == value
    assert {path: origin for path, origin in merged.provenance.items() if path[0] == "a"} == {("a",): NEW}


def test_layers_do_not_share_what_they_hold() -> None:
    lower, upper = Layer({"a": {"b": [1]}}, {}), Layer({"c": {"d": [2]}}, {})
    merged = merge(lower, upper)
    merged.values["a"]["b"].append(0)
    merged.values["c"]["d"].append(0)
    assert (lower.values, upper.values) == ({"a": {"b": [1]}}, {"c": {"d": [2]}})
    bare = unset(lower, [("a", "b")])
    assert (bare.values, lower.values) == ({"a": {}}, {"a": {"b": [1]}})


def test_an_assignment_makes_its_tables_and_is_their_origin() -> None:
    made = assign(LOWER, ("n", "m", "o"), 7, NEW)
    assert made.values == {**LOWER.values, "n": {"m": {"o": 7}}}
    assert made.provenance == {**LOWER.provenance, ("n",): NEW, ("n", "m"): NEW, ("n", "m", "o"): NEW}
    changed = assign(LOWER, ("a", "b"), 7, NEW)
    assert changed.values["a"] == {"b": 7, "c": {"d": 2}}
    assert changed.provenance == {**LOWER.provenance, ("a", "b"): NEW}


def test_unset_takes_a_key_with_its_origins_and_ignores_absent_ones() -> None:
    left = unset(LOWER, [("a", "c"), ("x",), ("nothing",), ("x", "y", "z"), ("list", "y"), ("a", "q", "r")])
    assert left.values == {"a": {"b": 1}, "list": [1, 2]}
    assert left.provenance == {("a",): OLD, ("a", "b"): OLD, ("list",): OLD}
    assert LOWER.provenance.keys() >= {("a", "c", "d"), ("x",)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 'a']", [1, "a"]),
        ("plain", "plain"),
        ("'7'", "7"),
        ("", ""),
    ],
)
def test_the_right_side_is_a_toml_value_or_a_bare_string(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_a_value_that_would_add_keys_is_a_string() -> None:
    assert parse_value("1\nother = 2") == "1\nother = 2"


def test_keys_are_split_at_dots_outside_of_quotes() -> None:
    assert parse_key('a."b.c".d') == ("a", "b.c", "d")


def test_an_override_ends_its_key_at_the_first_equals_sign_outside_of_quotes() -> None:
    arguments = ["--", "", "a.b = x=y", '"k=\'=".c=1', "'k\"='.d=2"]
    assert parse_overrides(arguments) == [
        Override(("a", "b"), "x=y"),
        Override(("k='=", "c"), 1),
        Override(('k"=', "d"), 2),
    ]


def test_every_bad_override_is_named() -> None:
    with pytest.raises(UserError) as error:
        parse_overrides(["a=1", "b", "c d=1", '"open=1'])
    assert [problem.file for problem in error.value.problems] == ["command line"] * 3


def test_key_paths_are_written_as_on_the_command_line() -> None:
    assert key_text(("optimizer", "lr_multipliers", "model.visual", 2, "x-1")) == (
        'optimizer.lr_multipliers."model.visual"[2].x-1'
    )
    assert key_text((0,)) == "[0]"
    assert key_text(("a b",)) == '"a b"'


def interpolated(values: dict[str, Any], **environment: str) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    provenance = {("s", "key"): OLD}
    resolved, problems = interpolate(values, provenance, environment.get, datetime(2026, 3, 4))
    return resolved, [(problem.key, problem.file, problem.line) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${oc.env:N}", "12"),
        ("${oc.env:SPACED}", "8"),
        ("${oc.env:DAY}", "2026-03-04"),
        ("${oc.env:RATE}", 1e-3),
        ("${oc.env:LIST}", [1, 2]),
        ("n${oc.env: N }", "n12"),
        ("${oc.env:N,3}", "12"),
        ("${oc.env:GONE, 3}", "3"),
        ("${oc.env:GONE,}", ""),
        ("${oc.env:GONE,a,b}", "a,b"),
        ("${oc.env:EMPTY,full}", ""),
        ("${now:%Y-%m}", "2026-03"),
        ("${now:%Y-%m-%d}", "2026-03-04"),
        ("${now:%Y}", "2026"),
        ("${oc.env:N}/${now:%d}", "12/04"),
        ("${oc.env:BRACES}", "${x}"),
        ("plain", "plain"),
        (["${oc.env:N}", {"deep": "${oc.env:N}"}], ["12", {"deep": "12"}]),
    ],
)
def test_strings_are_filled_in(text: Any, value: Any) -> None:
    variables = {"N": "12", "SPACED": " 8 ", "EMPTY": "", "BRACES": "${x}"}
    variables |= {"DAY": "2026-03-04", "RATE": "1e-3", "LIST": "[1, 2]"}
    found = interpolated({"s": {"key": text}}, **variables)
    assert found == ({"s": {"key": value}}, [])


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:GONE}",
        "x${oc.env:GONE}",
        "???",
        "${other:x}",
        "${oc.env:}",
        "${oc.env: ,x}",
        "${now:}",
        "a ${oc.env:N} ${b",
    ],
)
def test_what_cannot_be_filled_in_is_one_problem_with_its_place(text: str) -> None:
    _, problems = interpolated({"s": {"key": text}}, N="1")
    assert problems == [("s.key", "old.toml", 3)]
    _, elsewhere = interpolated({"s": {"other": [text]}}, N="1")
    assert elsewhere == [("s.other[0]", "", None)]


def test_what_a_person_keeps_in_custom_is_left_alone_and_a_start_may_be_missing() -> None:
    values = {"custom": {"a": "${oc.env:GONE}"}, "checkpoint": {"load_path": "???"}}
    assert interpolated(values) == ({"custom": {"a": "${oc.env:GONE}"}, "checkpoint": {"load_path": None}}, [])


def test_a_problem_is_placed_at_the_nearest_table_that_was_written() -> None:
    provenance = {("a",): OLD, ("a", "b"): NEW}
    found = [problem_at(path, "m", provenance, "h") for path in (("a", "b", "c", "d"), ("a", "x"), ("z", "b"))]
    assert [(one.file, one.line) for one in found] == [("new.toml", 5), ("old.toml", 3), ("", None)]
    assert [(one.key, one.message, one.hint) for one in found] == [
        ("a.b.c.d", "m", "h"),
        ("a.x", "m", "h"),
        ("z.b", "m", "h"),
    ]


@attrs.frozen
class Bounded:
    one: int = option(2, "One.", low=1, high=3)
    many: tuple[int, ...] = option((), "Many.", low=1, high=3)
    word: str | None = option(None, "Word.", choices=("a", "b"))


@pytest.mark.parametrize("values", [{"one": 1}, {"one": 3}, {"many": (1, 3)}, {"word": "b"}, {"word": None}])
def test_bounds_are_inclusive(values: dict[str, Any]) -> None:
    Bounded(**values)


@pytest.mark.parametrize("values", [{"one": 0}, {"one": 4}, {"many": (1, 0)}, {"many": (4,)}, {"word": "c"}])
def test_every_element_is_checked(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(values.values()))).strip("(),1 ") or "must be"):
        Bounded(**values)


def test_fields_carry_what_the_reference_shows() -> None:
    @attrs.frozen
    class All:
        must: int = required("Must.", unit="s", choices=(1, 2), low=1, high=2, on_resume="list")
        may: int = option(1, "May.", unit="m", choices=(1, 3), low=0, high=4, on_resume="refuse_training")
        plain: int = option(1, "Plain.")
        table: Bounded = section(Bounded, "Table.", on_resume="list")

    must, may, plain, table = attrs.fields(All)
    assert [field.metadata["help"] for field in (must, may, table)] == ["Must.", "May.", "Table."]
    assert [field.metadata["unit"] for field in (must, may)] == ["s", "m"]
    assert bounds_of(must) == Bounds(choices=(1, 2), low=1, high=2)
    assert bounds_of(may) == Bounds(choices=(1, 3), low=0, high=4)
    assert bounds_of(table) == Bounds()
    assert [default_of(field) for field in (must, may, table)] == [attrs.NOTHING, 1, Bounded()]
    assert [on_resume_of(field, "list") for field in (must, may, plain)] == ["list", "refuse_training", "list"]
    assert [on_resume_of(field, "refuse") for field in (must, may, plain)] == ["list", "refuse_training", "refuse"]
    with pytest.raises(ValueError, match="must be one of"):
        All(must=3)
