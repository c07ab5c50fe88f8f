"""The pages of docs/ and the READMEs agree with the code: what is cited, linked or named exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ROOMS = sorted(path.parent for path in (ROOT / "cosmos_core").glob("*/__init__.py"))
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
GENERATED = {"config", "plugin"}
"""Rooms whose README is written by `make docs`."""
READMES = [path / "README.md" for path in (*ROOMS, *PLUGINS) if path.name not in GENERATED]
PROSE = [*PAGES, *READMES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "cosmos_core/README.md"]

CITATION = re.compile(r"\bdocs/([\w/-]+\.md)(?:, (?=[A-Z]))?")
FORMER = re.compile(r"\bspec/\w+\.md")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
NAMED_PATH = re.compile(r"`((?:cosmos_core|plugins|tests|docs)/[\w./-]+)`")
SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
UNNAMED = re.compile(r"\b(?:the reference(?! page)|the contract|P\d+[a-z]?|shared/)\b", re.IGNORECASE)


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def citing_files() -> Iterator[Path]:
    folders = ("cosmos_core", "plugins", "tests")
    for path in sorted(found for folder in folders for found in (ROOT / folder).rglob("*")):
        if path.suffix in {".py", ".toml", ".md", ".in"} and path != Path(__file__) and "build" not in path.parts:
            yield path


def page_text(page: Path) -> str:
    """A page with the generated one that it shows."""
    text = page.read_text(encoding="utf-8")
    return SNIPPET.sub(lambda match: (ROOT / match[1]).read_text(encoding="utf-8"), text)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page_text(page), flags=re.DOTALL), re.MULTILINE)


def anchor(heading: str) -> str:
    """As Python-Markdown makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def is_cited(heading: str, text: str) -> bool:
    return re.match(re.escape(heading) + r"(?![\w-])", text) is not None


def test_every_cited_section_exists() -> None:
    count = 0
    for path in citing_files():
        text = path.read_text(encoding="utf-8")
        for match in CITATION.finditer(text):
            where, page = f"{label(path)}:{text.count(chr(10), 0, match.start()) + 1}", DOCS / match[1]
            assert page.is_file(), f"{where} cites docs/{match[1]}, which does not exist"
            rest = text[match.end() :]
            cites_a_section = match[0].endswith(", ")
            found = not cites_a_section or any(is_cited(heading, rest) for heading in headings(page))
            assert found, f"{where} cites a section of docs/{match[1]} that does not exist: {rest.splitlines()[0]}"
            count += cites_a_section
    assert count > 50, "citations are no longer found"


@pytest.mark.parametrize("text", ["docs/data.md, Pool packings", "docs/training.md, Moving averages", "docs/no.md"])
def test_a_section_that_does_not_exist_is_noticed(text: str) -> None:
    match = CITATION.search(text)
    assert match is not None
    page = DOCS / match[1]
    assert not page.is_file() or not any(is_cited(heading, text[match.end() :]) for heading in headings(page))


def test_nothing_cites_pages_that_readers_do_not_have() -> None:
    for path in citing_files():
        found = FORMER.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{label(path)} cites {found[0] if found else ''}"


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, fragment in LINK.findall(page_text(page)):
        other = (page.parent / target).resolve() if target else page
        assert other in PAGES, f"{label(page)} links to {target}"
        assert not fragment or fragment in map(anchor, headings(other)), f"{label(page)} links to {target}#{fragment}"


def test_every_page_is_in_the_navigation() -> None:
    def leaves(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            yield from (leaf for value in entry.values() for leaf in leaves(value))
        elif isinstance(entry, list):
            yield from (leaf for value in entry for leaf in leaves(value))

    listed = sorted(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert listed == sorted(str(page.relative_to(DOCS)) for page in PAGES)


@pytest.mark.parametrize(
    "named",
    [
        *("plugin/hookspecs.py:HookSpecs", "train/family.py:ModelFamily", "train/family.py:BuildContext"),
        *("train/callback.py:Callback", "train/tracker.py:Tracker", "data/source.py:MapSource", "data/samples.py:Item"),
    ],
)
def test_the_guide_for_plugins_names_every_member(named: str) -> None:
    file, _, name = named.partition(":")
    module = ast.parse((ROOT / "cosmos_core" / file).read_text(encoding="utf-8"))
    (kind,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)
    members = {node.name for node in kind.body if isinstance(node, ast.FunctionDef)}
    fields = (node.target for node in kind.body if isinstance(node, ast.AnnAssign))
    members |= {field.id for field in fields if isinstance(field, ast.Name)}
    guide = set(re.findall(r"`(\w+)[`(]", (DOCS / "plugins.md").read_text(encoding="utf-8")))
    assert not {member for member in members if not member.startswith("_")} - guide


@pytest.mark.parametrize("path", PROSE, ids=label)
def test_paths_named_in_prose_exist(path: Path) -> None:
    for named in NAMED_PATH.findall(path.read_text(encoding="utf-8")):
        assert (ROOT / named).exists(), f"{label(path)} names {named}"


@pytest.mark.parametrize("path", PROSE, ids=label)
def test_prose_names_what_it_speaks_of(path: Path) -> None:
    found = UNNAMED.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{label(path)} says '{found[0] if found else ''}' without naming what it is"


def test_the_readme_of_core_names_its_rooms_and_modules() -> None:
    named = re.findall(r"`(\w+)(?:\.py)?`", (ROOT / "cosmos_core/README.md").read_text(encoding="utf-8"))
    modules = {path.stem for path in (ROOT / "cosmos_core").glob("*.py")} - {"__init__", "__main__"}
    assert not {*modules, *(room.name for room in ROOMS)} - {*named}


@pytest.mark.parametrize("plugin", PLUGINS, ids=label)
def test_the_readme_of_a_plugin_names_its_files_and_recipes(plugin: Path) -> None:
    text, _, table = (plugin / "README.md").read_text(encoding="utf-8").partition("| in `src/")
    source = plugin / "src" / plugin.name
    rows = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([\w./]+)`", row)}
    folders = {path.name for path in source.iterdir() if path.is_dir()}
    assert named == {path.name for path in source.glob("*.py")} - {"__init__.py"} | folders - {"__pycache__"}
    recipes = {path.stem for path in source.glob("recipes/*.toml")}
    assert not recipes - {*re.findall(r"\w+", text)}


@pytest.mark.parametrize("room", [room for room in ROOMS if room.name not in GENERATED], ids=label)
def test_the_readme_of_a_room_names_its_files(room: Path) -> None:
    """In a table; folders count as one name."""
    named = set(re.findall(r"^\| `([\w./]+)` \|", (room / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    there = {path.name for path in room.glob("*.py")} | {f"{path.name}/" for path in room.iterdir() if path.is_dir()}
    assert named == there - {"__init__.py", "__pycache__/"}, f"{label(room)}/README.md and the room's files differ"
