"""Metrics of other people: found through the hook, replaced by a dataset's own, and reported when they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cosmos_core.data import Answer
from cosmos_core.errors import UserError
from cosmos_core.plugin import MetricSpec, PluginManager
from cosmos_core.plugin.discovery import BUILTIN, Candidate
from cosmos_core.testing import check_contribution
from cosmos_core.train.scores import Scoring

PLUGIN = """
from cosmos_core.plugin import MetricSpec, hookimpl

COSMOS_API = 1

@hookimpl
def cosmos_metrics():
    yield MetricSpec(name="length", summary="Words an answer has", metric="acme_scores.metrics:length",
                     errors=("surplus_words",))
    yield MetricSpec(name="tone", summary="For polite data", metric="acme_scores.metrics:tone",
                     report="acme_scores.metrics:report", datasets=("letters",))
"""
METRICS = """
def length(answers):
    return {"surplus_words": [len(a.prediction.split()) - len(a.reference.split()) for a in answers]}

def tone(answers):
    return {"polite": [float("please" in a.prediction) for a in answers]}

def report(answers, folder):
    (folder / "tone.txt").write_text(str(len(answers)))

def fails(answers):
    return 1 / 0

def short(answers):
    return [1.0]

def share(answers):
    return sum("please" in a.prediction for a in answers) / len(answers)
"""
ANSWERS = [Answer("a", "please sit down", "sit"), Answer("b", "sit", "sit")]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginManager:
    """Core and a third party's package."""
    package = tmp_path / "acme_scores"
    package.mkdir()
    for name, text in {"__init__": "", "plugin": PLUGIN, "metrics": METRICS}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("acme_scores")]:
        monkeypatch.delitem(sys.modules, name)
    return PluginManager([BUILTIN, Candidate("acme", "acme-scores", "1.0", "acme_scores.plugin")])


def test_a_third_partys_general_metric_joins_those_of_core(plugins: PluginManager) -> None:
    assert plugins.statuses[1].provides == ("metric length", "metric tone")
    assert all(check_contribution(spec) == [] for spec in plugins.registry.all(MetricSpec))
    scoring = Scoring.of(["chat"], plugins)
    scored = scoring.score(ANSWERS, {})
    assert scored.values == {"exact_match": 0.5, "surplus_words": 1.0}
    assert scored.columns["surplus_words"] == (2.0, 0.0)
    assert "surplus_words" in scoring.errors
    assert not scoring.own


def test_a_datasets_own_metric_stands_alone_and_writes_its_files(plugins: PluginManager, tmp_path: Path) -> None:
    scoring = Scoring.of(["acme:letters"], plugins)
    assert scoring.own
    assert scoring.score(ANSWERS, {"a": "x", "b": "y"}).values == {"polite": 0.5, "polite_x": 1.0, "polite_y": 0.0}
    assert list(scoring.report(ANSWERS, tmp_path)) == []
    assert (tmp_path / "tone.txt").read_text() == "2"


def test_in_a_mixture_data_without_a_metric_of_its_own_has_the_general_ones_too(plugins: PluginManager) -> None:
    scoring = Scoring.of(["letters", "chat"], plugins)
    assert not scoring.own
    assert scoring.score(ANSWERS, {}).values.keys() == {"polite", "exact_match", "surplus_words"}


def test_a_metric_that_fails_is_named_with_its_line_and_the_others_count(plugins: PluginManager) -> None:
    more = [f"acme_scores.metrics:{name}" for name in ("fails", "short", "share")]
    scored = Scoring.of(["letters"], plugins, more).score(ANSWERS, {})
    assert scored.values == {"polite": 0.5, "share": 0.5}
    failed, wrong = (problem.message for problem in scored.problems)
    assert "metric 'fails' failed: ZeroDivisionError" in failed
    assert "metrics.py:12" in failed
    assert "'short' has 1 values for 2 answers" in wrong


def test_no_metric_takes_the_place_of_another_value(plugins: PluginManager) -> None:
    scored = Scoring.of(["letters"], plugins, ["acme_scores.metrics:share"]).score(ANSWERS, {}, {"share": 3.0})
    assert scored.values == {"polite": 0.5}
    assert "metric 'share' failed: ValueError: there is another value called share" in scored.problems[0].message
    with pytest.raises(UserError) as caught:
        Scoring.of(["letters"], plugins, 2 * ["acme_scores.metrics:share"])
    assert "another metric is called share too" in caught.value.problems[0].message


def test_all_metrics_that_cannot_be_imported_are_named(plugins: PluginManager) -> None:
    with pytest.raises(UserError) as caught:
        Scoring.of(["letters"], plugins, ["nowhere:f", "acme_scores.metrics:tones", "no reference"])
    assert [problem.message.partition(": ")[0] for problem in caught.value.problems] == [
        "--metric nowhere:f",
        "--metric acme_scores.metrics:tones",
        "--metric no reference",
    ]
