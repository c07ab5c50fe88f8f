"""Files that commands write for the user: where that cannot be done, one error, and nothing is replaced or lost."""

from __future__ import annotations

import os
from pathlib import Path

from click.testing import CliRunner

from cosmos_core.cli.main import root_command
from cosmos_core.errors import UserError
from cosmos_core.plugin.manager import PluginManager

PLUGINS = PluginManager.discover()


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
