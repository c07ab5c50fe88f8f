"""The mutation tests themselves: they notice planted faults, tell what survives, and draw what they should."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.mutants.draw import Table, draw
from tests.mutants.rules import edits

ROOT = Path(__file__).resolve().parents[2]

SOURCE = '''\
"""Prices."""

from __future__ import annotations

__all__ = ["price"]

FREE_FROM = 100


def price(total: int, shipping: int = 5) -> int:
    """With shipping; nothing for orders of 100 and more."""
    if total < 0:
        raise ValueError(f"a price of {total + 1} is too low")
    assert shipping >= 0
    return total + (shipping if total < FREE_FROM else 0)
'''
PLUGINS = ["pytest", "hypothesis", "_hypothesis_pytestplugin", "xdist.plugin", "anyio.pytest_plugin"]
"""Imported once, which saves seconds a trial."""
COMPLETE = """\
import pytest
from shop.prices import price


def test_all():
    assert [price(0), price(1), price(99), price(100), price(1, 2)] == [5, 6, 104, 100, 3]
    with pytest.raises(ValueError):
        price(-1)
"""


def write(root: Path, tests: str, source: str = SOURCE) -> None:
    """A tree of one package with these tests."""
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['slow', 'ranks']\n",
        "plugins/shop/src/shop/__init__.py": "",
        "plugins/shop/src/shop/prices.py": source,
        "tests/test_prices.py": tests,
        "tests/mutants/table.toml": f"preload = {PLUGINS}\n[[room]]\nfiles = ['plugins/shop/src/shop/prices.py']\n"
        "tests = ['tests/test_prices.py']\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def tried(root: Path, tests: str, *arguments: str, source: str = SOURCE) -> tuple[int, str]:
    """Exit code and report."""
    write(root, tests, source)
    command = [sys.executable, "-m", "tests.mutants", "--root", str(root), "--processes", "1", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_tests_that_are_complete_catch_every_fault(tmp_path: Path) -> None:
    code, report = tried(tmp_path, COMPLETE)
    assert code == 0, report
    assert "(100.0%)" in report


def test_a_hole_in_the_tests_is_shown_as_a_diff_that_can_be_tried_again(tmp_path: Path) -> None:
    hole = COMPLETE.replace("price(100), ", "").replace("104, 100", "104")
    code, report = tried(tmp_path, hole)
    assert code == 1, report
    changed = "+    return total + (shipping if total <= FREE_FROM else 0)"
    assert changed in report
    again = next(line for line in report.splitlines() if line.startswith("survived:"))
    code, second = tried(tmp_path, hole, *again.split()[4:])
    assert code == 1
    assert "0 of 1 mutants caught" in second


def test_a_fault_that_never_ends_is_caught_when_its_time_is_up(tmp_path: Path) -> None:
    source = "def countdown(start):\n    while start > 0:\n        start -= 1\n    return start\n"
    tests = "from shop.prices import countdown\n\n\ndef test_it():\n    assert countdown(3) == 0\n"
    code, report = tried(tmp_path, tests, "--least", "3", source=source)
    assert "out of time" in report
    assert code == 0, report


def test_ended_from_outside_it_leaves_no_process_and_no_copy(tmp_path: Path) -> None:
    tests = "import time\n\n\ndef test_it():\n    time.sleep(600)\n"
    write(tmp_path, tests)
    command = [sys.executable, "-m", "tests.mutants", "--root", str(tmp_path), "--processes", "1"]
    copies = tmp_path / "copies"
    copies.mkdir()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(copies)})
    deadline = time.monotonic() + 180
    while not list(copies.glob("*/*.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    trials = psutil.Process(process.pid).children(recursive=True)
    assert trials
    process.terminate()
    process.wait(180)
    _, alive = psutil.wait_procs(trials, timeout=60)
    assert not alive
    assert list(copies.iterdir()) == []


@pytest.mark.parametrize("tests", ["def test_it():\n    assert False\n", "no python", ""])
def test_tests_that_fail_without_a_fault_prove_nothing(tmp_path: Path, tests: str) -> None:
    code, report = tried(tmp_path, tests)
    assert code == 2, report
    assert "fail without a fault" in report


def test_only_what_tests_can_see_is_changed() -> None:
    changed = {ast.unparse(ast.parse(edit.apply(SOURCE))) for edit in edits(SOURCE)}
    original = ast.unparse(ast.parse(SOURCE))
    assert original not in changed
    for kept in ('"""Prices."""', "['price']", "assert shipping >= 0", "total: int"):
        assert kept in original
        assert all(kept in text for text in changed)
    for message in ("total - 1", "total + 0", "total + 2"):
        assert not any(message in text for text in changed)
    for lines in (
        "FREE_FROM = 101",
        "FREE_FROM = 99",
        "shipping: int=6",
        "if total <= 0:",
        "if not total < 0:",
        "        pass\n",
        "return total - (",
        "if total <= FREE_FROM else",
    ):
        assert any(lines in text for text in changed), lines


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("f(a, b)", {"f(b, a)", "pass"}),
        ("x = f(a, key=b, other=c)", {"x = f(a, other=c)", "x = f(a, key=b)"}),
        ("x = a and b", {"x = a or b"}),
        ("x = not a", {"x = a"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if not a]"}),
        ("x = a[b:]", {"x = a[b + 1:]"}),
        ("x = range(a)", {"x = range(a + 1)"}),
        ("x = True", {"x = False"}),
        ("self.x = y", {"pass"}),
        ("logger.info('a', 1)", set()),
        ("x = max(a, b)", set()),
        ("if a.is_cuda:\n    f(b)", {"if not a.is_cuda:\n    f(b)"}),
        ("event.synchronize()", set()),
        ("x = f(device=a)", set()),
        ("raise UserError(a, b)", {"pass"}),
        ("x = zip(a, b, strict=True)", {"x = zip(b, a, strict=True)"}),
    ],
)
def test_the_faults_of_a_statement(source: str, expected: set[str]) -> None:
    assert {ast.unparse(ast.parse(edit.apply(source))) for edit in edits(source)} == expected


def test_a_draw_is_the_same_again_and_begins_alike_however_long() -> None:
    table = Table.read(ROOT)
    few, many = draw(ROOT, table, 7, 5), draw(ROOT, table, 7, 50)
    assert few == many[:5]
    assert [mutant.number for mutant in many] == list(range(1, 51))
    assert draw(ROOT, table, 8, 5) != few
    assert len({mutant.file for mutant in many}) > 10


@pytest.mark.slow
def test_most_of_a_few_faults_in_this_tree_are_caught() -> None:
    """`make mutants` asks for 95 % of many; of so few, one may be a change that nobody can observe."""
    options = ["--seed", "4", "--count", "4", "--processes", "1", "--below", "cosmos_core/config"]
    command = [sys.executable, "-m", "tests.mutants", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    caught = re.search(r"^seed 4: (\d) of 4 mutants caught", done.stdout, re.MULTILINE)
    assert caught is not None, done.stdout + done.stderr
    assert int(caught[1]) >= 3, done.stdout
