"""The public API of the core: the names that the package and each of its rooms list in ``__all__``.

``python -m tests.public_api`` prints them; `make docs` writes them to tests/golden/public_api.txt.
"""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["GOLDEN", "public_api"]

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "cosmos_core"
GOLDEN = ROOT / "tests/golden/public_api.txt"


def public_api() -> str:
    """One line a name, sorted."""
    modules = [path for path in CORE.glob("*.py") if path.name != "__main__.py"]
    files = {path.stem: path for path in modules} | {path.parent.name: path for path in CORE.glob("*/__init__.py")}
    lines = []
    for name, path in files.items():
        module = "cosmos_core" if name == "__init__" else f"cosmos_core.{name}"
        lines += [f"{module}.{public}" for public in _listed(path)]
    return "\n".join(sorted(lines)) + "\n"


def _listed(path: Path) -> list[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if ast.unparse(targets[0]) == "__all__":
                names: list[str] = ast.literal_eval(node.value)
                return names
    raise AssertionError(f"{path} has no __all__")


if __name__ == "__main__":
    print(public_api(), end="")
