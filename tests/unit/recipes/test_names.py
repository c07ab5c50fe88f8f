"""Names in recipes are believed: one that names nothing is an error with its place and the nearest one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cosmos_core.config.problems import render
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import find_recipe, peek
from cosmos_core.recipes.loading import resolve
from cosmos_core.recipes.peek import check_can_run
from tests.command import cosmos

PLUGINS = PluginManager.discover()
NANO = find_recipe("vision_sft_nano").read_text()
ACTION = (
    "action_policy_droid_nano",
    "action_policy_libero_nano",
    "action_policy_libero_all_nano",
    "action_fd_droid_posttrain",
)
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "recipe.toml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def refused(recipe: str, *overrides: str, problems: int = 1) -> str:
    with pytest.raises(UserError) as error:
        resolve(recipe, overrides, plugins=PLUGINS)
    assert len(error.value.problems) == problems
    return render(error.value)


def test_an_unknown_experiment_is_refused_even_where_the_file_sets_all_that_a_run_needs(write: Write) -> None:
    whole = write(NANO.replace('experiment = "vision_sft_nano"', 'experiment = "vision_sft_nanoo"'))
    line = NANO.splitlines().index('experiment = "vision_sft_nano"') + 1
    text = refused(whole)
    assert f"{whole}:{line}  job.experiment: no recipe for experiment 'vision_sft_nanoo'" in text
    assert "did you mean 'vision_sft_nano'?" in text
    assert "vision_sft_nanoo" in refused(write('[job]\nexperiment = "vision_sft_nanoo"\n'))


def test_a_file_of_another_kind_is_not_called_missing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(write("{}", "recipe.json")).parent)
    assert "recipe.json is no recipe" in refused("recipe.json")
    assert "the name of the recipe is empty" in refused("")
    assert "data is read by `cosmos data check FILE`" in refused("./recipe.json")


def test_a_recipe_that_is_not_utf_8_is_told_with_line_and_encoding(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    for encoding, words in (("utf-16", ":1  is UTF-16, not UTF-8"), ("latin-1", ":2  is not UTF-8 (byte 0xfc)")):
        recipe.write_bytes('extends = "hello"\nsummary = "für"\n'.encode(encoding))
        assert f"{recipe}{words}" in refused(str(recipe))


@pytest.mark.parametrize("extends", ["", 'extends = "vision_sft_nano"\n'])
def test_so_is_one_of_the_training_scripts_other_names_with_or_without_a_parent(write: Write, extends: str) -> None:
    text = refused(write(f'{extends}[job]\nexperiment = "pre_exp012_llava_ovv"\n'))
    assert "did you mean 'pre_exp012_llava_ov'?" in text


@pytest.mark.parametrize("experiment", ACTION)
def test_an_action_recipe_says_that_it_needs_a_plugin(write: Write, experiment: str) -> None:
    text = refused(write(f'[job]\ntask = "vfm"\nexperiment = "{experiment}"\n'))
    assert "recipe.toml:3  job.experiment" in text
    assert "action recipes need a plugin for task 'action'" in text


def test_an_experiment_on_the_command_line_chooses_nothing_and_says_so(write: Write) -> None:
    assert "cosmos run vision_sft_super" in refused("vision_sft_nano", "job.experiment=vision_sft_super")
    same = resolve("vision_sft_nano", ("job.experiment=vision_sft_nano",), plugins=PLUGINS)
    assert same.config.job.experiment == "vision_sft_nano"


def test_a_wrong_parent_has_its_file_its_line_and_the_nearest_name(write: Write) -> None:
    path = write('summary = "mine"\n\nextends = "vision_sft_demoo"\n')
    text = refused(path)
    assert f"{path}:3  extends: no recipe 'vision_sft_demoo'; did you mean 'vision_sft_demo'?" in text
    write('extends = "recipe.toml"\n', "child.toml")
    assert f"{path}:3  extends" in refused(str(Path(path).with_name("child.toml")))
    near = write('extends = "recip.toml"\n', "child.toml")
    assert f"{near}:1  extends: no such recipe file" in refused(near)
    assert "did you mean 'recipe.toml'?" in refused(near)
    assert "did you mean" not in refused(write('extends = "zzzz.toml"\n', "child.toml"))
    assert "expected a recipe's name or path" in refused(write("extends = 3\n"))


def test_a_recipe_named_like_a_file_or_with_a_wrong_distribution_gets_the_right_name(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        find_recipe("hello.toml")
    assert "did you mean 'hello'?" in render(error.value)
    (tmp_path / "mine.toml").touch()
    with pytest.raises(UserError) as error:
        find_recipe("mine", base=tmp_path)
    assert "did you mean the file 'mine.toml'?" in render(error.value)
    with pytest.raises(UserError) as error:
        find_recipe("cosmos-cor:hello")
    assert "did you mean 'cosmos-core:hello'?" in render(error.value)


def test_what_no_parent_sets_cannot_be_unset(write: Write) -> None:
    text = refused(write('extends = "vision_sft_nano"\nunset = [\n  "job.experiment",\n  "optimizer.epss",\n]\n'))
    assert "recipe.toml:4  unset[1]: no parent sets 'optimizer.epss'; did you mean 'optimizer.eps'?" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('extends = "helo"\n', (":1  extends: no recipe 'helo'", "did you mean 'hello'?")),
        ("extends = 3\n", (":1  extends: expected",)),
        ('[job]\nexperiment = "helo"\n', (":2  job.experiment: no recipe for experiment", "'hello'")),
        ("[job\n", ("not readable", "line 1")),
        ('extends = "recipe.toml"\n', ("extend each other in a cycle",)),
    ],
)
def test_a_listing_says_why_a_recipe_cannot_be_loaded(write: Write, text: str, words: tuple[str, ...]) -> None:
    path = Path(write(text))
    for glance in (peek(path), peek(Path(write('extends = "recipe.toml"\n', "child.toml")))):
        assert glance.problem is not None
        said = render(UserError("", [glance.problem]))
        assert all(word in said for word in (str(path), *words)), said


def test_the_list_has_a_row_that_says_why(tmp_path: Path) -> None:
    recipes = tmp_path / "acme_recipes"
    recipes.mkdir()
    (recipes / "bad_parent.toml").write_text('extends = "helo"\n')
    (recipes / "no_toml.toml").write_bytes(b"\xff\xfe")
    (recipes / "later.toml").write_text('extends = "hello"\nnot_yet = "waits for acme 2"\n')
    info = tmp_path / "acme_recipes-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-recipes\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[cosmos.recipes]\nacme = acme_recipes\n")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    rows = {row["recipe"]: row for row in json.loads(cosmos("recipes", "list", "--json", env=env).stdout)}
    assert "bad_parent.toml:1  extends: no recipe 'helo'; did you mean 'hello'?" in rows["bad_parent"]["summary"]
    assert "no_toml.toml  not readable" in rows["no_toml"]["summary"]
    assert (rows["later"]["task"], rows["later"]["summary"]) == ("tiny", "not yet: waits for acme 2")
    assert all(row["summary"] for row in rows.values())


def test_a_recipe_that_cannot_run_yet_is_shown_with_the_reason_and_not_run(write: Write, tmp_path: Path) -> None:
    path = write('extends = "hello"\n\nnot_yet = "waits for acme 2"\n')
    child = write('extends = "recipe.toml"\n', "child.toml")
    for recipe in (path, child):
        said = cosmos("run", recipe, "--dry-run", "--output-root", str(tmp_path / "runs"), code=2).stderr
        assert f"{path}:3  not_yet: waits for acme 2" in said
        assert f"{path}:3  not_yet: waits for acme 2" in cosmos("eval", recipe, code=2).stderr
        assert cosmos("recipes", "check", recipe).stdout == f"{recipe}: ok; cannot run yet: waits for acme 2\n"
        assert json.loads(cosmos("recipes", "check", recipe, "--json").stdout)[0]["not_yet"] == "waits for acme 2"
    assert not (tmp_path / "runs").exists()
    shown = cosmos("recipes", "show", child).stdout
    assert shown.startswith("# not yet: waits for acme 2\n")
    assert json.loads(cosmos("recipes", "show", child, "--json").stdout)["job"]["task"] == "tiny"
    assert peek(Path(write('extends = "recipe.toml"\nnot_yet = ""\n', "child.toml"))).not_yet is None


def test_the_shipped_recipe_of_an_unsupported_backbone_asks_for_nothing(write: Write) -> None:
    """Also where a file names it as its experiment, and sets what is not there."""
    theirs = write('[job]\nexperiment = "videophy2_sft_edge"\nname = "${oc.env:NOT_SET_ANYWHERE}"\n')
    for recipe in ("videophy2_sft_edge", theirs):
        with pytest.raises(UserError, match="cannot run yet") as error:
            check_can_run(recipe)
        assert "is not supported" in error.value.problems[0].message


HEAD = """\
summary = 3
extends = "helo"
requires = ["acme-missing>=2", 3, "b ; python_version < '3'", "acme-here ; python_version > '3'", "a ; os_name ~= 'x'"]
unset = ["a b", "optimizer.eps"]
not_yet = true
published = 1
optimiser = 1
[optimizer]
lrr = 3
"""


def test_all_that_is_wrong_with_a_head_is_told_with_wrong_keys_below_and_on_the_command_line(write: Write) -> None:
    head = (
        ":1  summary: expected a text", ":3  requires[0]: acme-missing>=2 is not installed;",
        ":3  requires[1]: 3 is not a requirement", ":3  requires[3]: acme-here ; python_version > '3' is not",
        """:3  requires[4]: "a ; os_name ~= 'x'" is not a requirement""",
        ":4  unset[0]: 'a b' is not a dotted key", ":5  not_yet: expected a",
        ":6  published: expected a table", ":7  optimiser: unknown section", ":9  optimizer.lrr: unknown key",
        "command line  summary: is read in recipe files alone", "command line  job.nam: unknown key",
    )  # fmt: skip
    overrides = ("summary=x", "job.nam=x")
    without = refused(write(HEAD), *overrides, problems=13)  # What the missing parent may set is none.
    assert "recipe.toml:2  extends: no recipe 'helo'" in without
    found = refused(write(HEAD.replace("helo", "hello")), *overrides, problems=13)
    assert "unset[1]: no parent sets 'optimizer.eps'" in found
    child = refused(write('extends = "recipe.toml"\n', "child.toml"), *overrides, problems=13)
    for words in head:
        assert words in without
        assert words in found
        assert words in child


def test_faults_of_extends_and_of_the_experiment_are_told_together_along_the_chain(write: Write) -> None:
    path = write('extends = 3\n[job]\nexperiment = "helo"\n')
    said = refused(path, problems=2)
    assert f"{path}:1  extends: expected a recipe's name or path" in said
    assert f"{path}:3  job.experiment: no recipe for experiment 'helo'" in said
    child = write('extends = "recipe.toml"\n[job]\nexperiment = "hallo"\n', "child.toml")
    above = refused(child, problems=3)
    assert f"{path}:1  extends: expected" in above
    assert f"{child}:3  job.experiment: no recipe for experiment 'hallo'" in above


def test_a_key_that_is_missing_since_it_was_set_back_is_told_with_that_line(write: Write) -> None:
    path = write('extends = "hello"\nunset = [\n  "job",\n]\n')
    assert f"{path}:3  job.task: is missing; set it" in refused(path, problems=2)
    child = write('extends = "hello"\nunset = ["job.task"]\n[job]\nname = "x"\n', "child.toml")
    assert f"{child}:2  job.task: is missing" in refused(child, problems=1)


def test_a_circle_of_parents_or_one_that_is_no_toml_is_told_beside_the_rest(write: Write) -> None:
    path = write('requires = 3\nextends = "child.toml"\n')
    child = write('extends = "recipe.toml"\n[job]\nnam = "x"\n', "child.toml")
    said = refused(child, problems=3)
    assert f"{path}:1  requires: expected a list" in said
    assert f"{path}:2  extends: recipes extend each other in a cycle: {child} -> {path} -> {child}" in said
    assert f"{child}:3  job.nam: unknown key" in said
    write("[job\n")
    said = refused(child, problems=2)
    assert f"{path}:1  " in said
    assert f"{child}:3  job.nam: unknown key" in said
