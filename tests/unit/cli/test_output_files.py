"""Files that commands write for the user: where that cannot be done, one error, and nothing is replaced or lost."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from cosmos_core.cli.main import root_command
from cosmos_core.errors import UserError, writing
from cosmos_core.plugin.manager import PluginManager

PLUGINS = PluginManager.discover()
NOWHERE = Path("/proc")
"""A folder in which not even root can make one."""


@contextmanager
def no_room(most: int = 0) -> Iterator[None]:
    """No more bytes can be written to a file, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refused(*arguments: str) -> UserError:
    done = CliRunner().invoke(root_command(PLUGINS), arguments, obj=PLUGINS, standalone_mode=False)
    assert isinstance(done.exception, UserError), done.exception
    return done.exception


def test_a_link_that_leads_nowhere_is_one_error(tmp_path: Path) -> None:
    for name, target in (("nowhere.toml", "missing/a.toml"), ("loop.toml", "loop.toml")):
        (tmp_path / name).symlink_to(target)
        (problem,) = refused("recipes", "copy", "hello", str(tmp_path / name)).problems
        assert problem.file == str(tmp_path / name)


def test_a_copy_of_a_recipe_has_a_name_that_can_be_run(tmp_path: Path) -> None:
    error = refused("recipes", "copy", "hello", str(tmp_path / "mine"))
    assert error.problems[0].hint == f"cosmos recipes copy hello {tmp_path}/mine.toml"
    assert not list(tmp_path.iterdir())


def test_a_report_never_takes_the_place_of_a_pipe_or_a_device(tmp_path: Path) -> None:
    (tmp_path / "run" / "launches").mkdir(parents=True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (problem,) = refused("report", str(tmp_path / "run"), "-o", str(pipe)).problems
    assert problem.message == "it is a device or a pipe"
    assert pipe.is_fifo()
    (problem,) = refused("report", str(tmp_path / "run"), "-o", str(tmp_path / "report.pdf")).problems
    assert problem.hint == "choose a name that ends in .html"
    assert not (tmp_path / "report.pdf").exists()


def test_a_package_that_cannot_be_written_is_one_error() -> None:
    assert refused("plugins", "new", "acme", "-o", f"{NOWHERE}/acme").title == f"{NOWHERE}/acme cannot be written"


def test_of_a_copy_the_new_file_is_named() -> None:
    """As `shutil.copyfile` tells it on a full disk."""
    with pytest.raises(UserError) as refusal, writing(Path("out")):
        raise OSError(errno.ENOSPC, "No space left on device", "old", None, "new")
    assert refusal.value.problems[0].file == "new"


@pytest.mark.torch
@pytest.mark.parametrize("command", [("data", "show"), ("eval",)])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(command: tuple[str, ...]) -> None:
    error = refused(*command, "hello", "-o", str(NOWHERE / "out" / "shown"))
    assert error.title.startswith("the output cannot be written; nothing was ")


@pytest.mark.torch
def test_a_page_that_finds_no_room_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    with no_room(most=6_000):
        assert refused("data", "check", "hello", "--html", str(page)).title == f"{page} cannot be written"
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.torch
def test_metrics_are_told_where_their_file_finds_no_room(tmp_path: Path) -> None:
    with no_room():
        done = CliRunner().invoke(root_command(PLUGINS), ["eval", "hello", "-o", str(tmp_path)], obj=PLUGINS)
    assert isinstance(done.exception, UserError)
    assert done.exception.title == f"{tmp_path}/metrics.json cannot be written"
    assert "val_loss: " in done.stdout
