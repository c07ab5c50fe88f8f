"""The house rules, read off the source: who imports whom, how big things are, where the environment is read."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "cosmos_core"
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").exists())

# Rooms that a room may import beside its own files; the lowest row may be imported by all.
BASE = {"errors", "formats", "names", "refs", "seeds", "stop_signals", "strict_json", "text_files"}
LEVELS = [
    {"cli"},
    {"builtin", "testing"},
    {"doctor"},
    {"train"},
    {"checkpoint"},
    {"data", "optim"},
    {"attention"},
    {"distributed"},
    {"launch"},
    {"report"},
    {"plan"},
    {"recipes", "hub"},
    {"plugin"},
    {"console"},
    {"config"},
    BASE,
]
LIGHT_ROOMS = {"launch", "report", "plan", "recipes", "hub", "plugin", "console", "config"} | BASE
LIGHT_FILES = {"plugin.py", "config.py", "specs.py", "sizes.py", "catalog.py"}
AGENT = "launch/agent.py"
"""The program of a process of its own, which nothing imports."""
LIGHT_DOCTOR = {"__init__.py", "check.py", "runner.py", "child.py"}
HEAVY = {"torch", "numpy", "av", "PIL", "matplotlib", "diffusers", "transformers", "tokenizers", "safetensors"}
PUBLIC_ROOMS = {
    "plugin", "config", "data", "optim", "checkpoint", "attention", "distributed", "train", "testing", "plan", "hub",
    "doctor", "recipes", "console", "errors", "formats", "names", "seeds", "strict_json", "text_files",
}  # fmt: skip

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "build" not in path.parts)


CORE_FILES = sources(CORE)
PLUGIN_FILES = [path for plugin in PLUGINS for path in sources(plugin / "src")]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[str, int]]:
    """Every absolute module name a file imports, with its line; inside functions too unless told otherwise."""
    tree = ast.parse(path.read_text())
    nodes: Iterator[ast.AST] = iter(_module_level(tree)) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(path)}:{node.lineno} imports relatively"
            module = node.module or ""
            yield module, node.lineno
            if module == "cosmos_core":
                yield from ((f"cosmos_core.{alias.name}", node.lineno) for alias in node.names)


def _module_level(tree: ast.Module) -> Iterator[ast.AST]:
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def level(name: str) -> int:
    for depth, rooms in enumerate(LEVELS):
        if name in rooms:
            return depth
    raise AssertionError(f"room '{name}' is not in the architecture")


@pytest.mark.parametrize("path", CORE_FILES, ids=label)
def test_core_imports_only_lower_rooms(path: Path) -> None:
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    if own in {"__init__", "__main__"}:
        return
    for module, line in imports(path):
        if not module.startswith("cosmos_core."):
            assert module.split(".")[0] not in {plugin.name for plugin in PLUGINS}, f"{label(path)}:{line}"
            continue
        other = room(module)
        allowed = other in {own, "__version__"} | BASE or level(other) > level(own)
        assert allowed, f"{label(path)}:{line}: {own} may not import {other}"


def is_light(path: Path) -> bool:
    if path == CORE / AGENT:
        return False
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    light = {"builtin": LIGHT_FILES, "doctor": LIGHT_DOCTOR}
    return own in LIGHT_ROOMS or path.name in light.get(own, ())


@pytest.mark.parametrize("path", [path for path in CORE_FILES if is_light(path)], ids=label)
def test_light_modules_import_nothing_heavy(path: Path) -> None:
    for module, line in imports(path):
        assert module.split(".")[0] not in HEAVY, f"{label(path)}:{line} imports {module}"


@pytest.mark.parametrize("path", sources(CORE / "cli"), ids=label)
def test_cli_imports_the_heavy_half_only_inside_functions(path: Path) -> None:
    for module, line in imports(path, top_level_only=True):
        heavy_room = module.startswith("cosmos_core.") and room(module) not in LIGHT_ROOMS | {"cli", "__version__"}
        assert not heavy_room, f"{label(path)}:{line} imports {module}"
        assert module.split(".")[0] not in HEAVY, f"{label(path)}:{line} imports {module}"


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=label)
def test_plugins_import_only_public_rooms_and_no_other_plugin(path: Path) -> None:
    own = path.relative_to(ROOT / "plugins").parts[0]
    for module, line in imports(path):
        top = module.split(".")[0]
        if top == "cosmos_core":
            assert room(module) in PUBLIC_ROOMS, f"{label(path)}:{line} imports {module}"
        assert top == own or top not in {plugin.name for plugin in PLUGINS}, f"{label(path)}:{line} imports {module}"


@pytest.mark.parametrize(
    "path", [path for path in PLUGIN_FILES if path.name in {"plugin.py", "config.py", "sizes.py"}], ids=label
)
def test_plugin_and_config_modules_are_light(path: Path) -> None:
    for module, line in imports(path):
        assert module.split(".")[0] not in HEAVY, f"{label(path)}:{line} imports {module}"


@pytest.mark.parametrize("path", CORE_FILES + PLUGIN_FILES, ids=label)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES, label(path)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{label(path)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", CORE_FILES + PLUGIN_FILES, ids=label)
def test_environment_is_read_in_one_place(path: Path) -> None:
    if path == CORE / "config" / "env.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in {"environ", "getenv", "putenv"}, f"{label(path)}:{node.lineno}"


PACKAGES = [path for path in CORE_FILES + PLUGIN_FILES if path.name == "__init__.py"]


@pytest.mark.parametrize("path", PACKAGES, ids=label)
def test_packages_list_their_public_names(path: Path) -> None:
    names = [
        target.id
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in names, label(path)


@pytest.mark.parametrize("path", CORE_FILES + PLUGIN_FILES, ids=label)
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{label(path)} has no docstring"


def module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path, known: Collection[str]) -> set[str]:
    """Modules among `known` that a file imports anywhere when it runs, those it takes from their package included."""
    found = set()
    tree = ast.parse(path.read_text())
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unseen = {inner for block in typing for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else str(node.module))
    return found & set(known)


def first_circle(imports_of: Mapping[str, Collection[str]]) -> list[str]:
    """A chain of modules that leads back to its first one; empty when there is none."""
    done: set[str] = set()

    def visit(module: str, chain: list[str]) -> list[str]:
        if module in chain:
            return [*chain[chain.index(module) :], module]
        if module not in done:
            for other in sorted(imports_of[module]):
                if circle := visit(other, [*chain, module]):
                    return circle
            done.add(module)
        return []

    return next((circle for module in sorted(imports_of) if (circle := visit(module, []))), [])


@pytest.mark.parametrize("package", [CORE, *(plugin / "src" / plugin.name for plugin in PLUGINS)], ids=label)
def test_no_modules_import_each_other_in_a_circle(package: Path) -> None:
    files = {module_name(path, package.parent): path for path in sources(package)}
    assert len(files) > 3
    circle = first_circle({name: imported_modules(path, files) for name, path in files.items()})
    assert not circle, " -> ".join(circle)


def test_a_circle_of_imports_is_found() -> None:
    assert first_circle({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == ["b", "c", "b"]
    assert first_circle({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) == []


def test_no_room_is_a_drawer() -> None:
    names = {path.stem for path in CORE_FILES + PLUGIN_FILES} | {path.parent.name for path in CORE_FILES + PLUGIN_FILES}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["plugins", "list"],
        ["recipes", "list"],
        ["recipes", "show", "vision_sft_demo"],
        ["data", "prepare", "--help"],
        ["doctor", "--help"],
        ["runs", "list", "tests"],
        ["report", "--help"],
        *(["data", "prepare", name, "--help"] for name in ("bridge", "videophy2")),
        ["data", "cache", "--help"],
        ["chat", "--help"],
    ],
    ids=" ".join,
)
def test_looking_around_never_imports_torch(command: list[str]) -> None:
    code = (
        "import sys\n"
        "from cosmos_core.cli.main import main\n"
        f"sys.argv = ['cosmos', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'numpy', 'av', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
