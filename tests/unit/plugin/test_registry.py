"""What plugins contribute is found by kind and name, whatever the kind."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import ClassVar

import pytest
from attrs import field, frozen

from cosmos_core.errors import UserError
from cosmos_core.plugin import (
    CallbackSpec,
    ConfiguredSpec,
    DatasetSpec,
    PluginManager,
    Registry,
    Spec,
    TrackerSpec,
    descriptors,
)
from cosmos_core.plugin.discovery import Candidate
from cosmos_core.plugin.hookspecs import CONTRIBUTIONS
from cosmos_core.plugin.registry import Entry
from cosmos_core.plugin.status import PluginStatus
from cosmos_core.refs import Ref
from cosmos_core.testing import check_contribution

ACME, OTHER = (Candidate(name, f"{name}-dist", "1.0", f"{name}.plugin") for name in ("acme", "other"))


@frozen(kw_only=True)
class SamplerSpec(Spec):
    """A kind that core has never heard of."""

    kind: ClassVar[str] = "sampler"
    name: str
    solver: Ref = field(converter=Ref)


def sampler(name: str, solver: str = "nowhere:Solver") -> SamplerSpec:
    return SamplerSpec(name=name, summary="x", solver=solver)


def registry(*entries: tuple[Spec, Candidate], broken: Iterable[Candidate] = ()) -> Registry:
    statuses = [PluginStatus(candidate=candidate, state="broken") for candidate in broken]
    return Registry([Entry(spec, candidate) for spec, candidate in entries], statuses)


def test_a_kind_nobody_has_heard_of_is_listed_and_found_by_name() -> None:
    euler, heun = sampler("euler"), sampler("heun")
    found = registry((euler, ACME), (heun, OTHER))
    assert found.all(SamplerSpec) == [euler, heun]
    assert found.get(SamplerSpec, "heun") is heun
    assert found.of(ACME) == [euler]
    assert found.all(TrackerSpec) == []


def test_one_name_may_stand_for_one_thing_of_each_kind() -> None:
    data = DatasetSpec(name="euler", summary="x", yields="x", config="nowhere:C", source="nowhere:S")
    found = registry((sampler("euler"), ACME), (data, ACME))
    assert found.get(DatasetSpec, "euler") is data


def test_two_providers_of_a_name_are_both_named_and_each_is_reached_by_its_distribution() -> None:
    mine, theirs = sampler("euler"), sampler("euler")
    found = registry((mine, ACME), (theirs, OTHER))
    with pytest.raises(
        UserError, match="sampler 'euler' is provided by several.*acme-dist 1.0, other-dist 1.0"
    ) as told:
        found.get(SamplerSpec, "euler")
    assert "write 'acme-dist:euler'" in told.value.problems[0].hint
    assert found.get(SamplerSpec, "other-dist:euler") is theirs


def test_an_unknown_name_brings_the_nearest_and_the_plugins_that_did_not_load() -> None:
    found = registry((sampler("euler"), ACME), broken=[OTHER])
    with pytest.raises(UserError, match="no sampler 'eulr'") as told:
        found.get(SamplerSpec, "eulr")
    unusable = "not loaded, and `cosmos plugins list` says why: other (broken)"
    assert told.value.problems[0].hint == f"did you mean 'euler'?; {unusable}"
    with pytest.raises(UserError, match="no sampler 'acme-dist:heun'"):
        found.get(SamplerSpec, "acme-dist:heun")


def test_every_kind_of_descriptor_has_one_hook_that_yields_it() -> None:
    kinds = {
        found
        for _, found in inspect.getmembers(descriptors, inspect.isclass)
        if issubclass(found, Spec) and found not in (Spec, ConfiguredSpec)
    }
    assert sorted(CONTRIBUTIONS.values(), key=str) == sorted(kinds, key=str)
    assert len({kind.kind for kind in kinds}) == len(kinds)


def test_sections_are_typed_by_every_kind_that_has_a_table() -> None:
    found = PluginManager.discover().registry
    for section, name, kind in (
        ("model", "tiny", "TinyModel"),
        ("dataloader_train.dataset", "tiny", "TinyData"),
        ("trainer.callbacks", "grad_clip", "GradClip"),
        ("trackers", "console", "Console"),
    ):
        assert found.section_class(section, name).__name__ == kind


def test_references_of_a_new_kind_are_checked_without_a_rule_of_its_own() -> None:
    (fault,) = check_contribution(sampler("euler"))
    assert fault.startswith("solver nowhere:Solver: ModuleNotFoundError")
    assert check_contribution(sampler("euler", "math:sqrt")) == []


@pytest.mark.parametrize(
    ("tasks", "task", "expected"),
    [((), "tiny", True), (("vfm",), "vfm", True), (("vfm",), "cosmos-vfm:vfm", True), (("vfm", "vlm"), "tiny", False)],
)
def test_a_callback_serves_the_tasks_it_names_or_all(tasks: tuple[str, ...], task: str, expected: bool) -> None:
    spec = CallbackSpec(name="bell", summary="x", config="nowhere:C", callback="nowhere:B", tasks=tasks)
    assert spec.serves(task) is expected
