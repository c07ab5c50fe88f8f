"""Errors that are reported without a traceback: an exception with a list of problems."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve, frozen

__all__ = [
    "Problem",
    "RankLost",
    "ReportedError",
    "RunFailed",
    "UserError",
    "as_problems",
    "disk_faults_reported",
    "file_of",
    "first_line",
    "in_table",
    "make_folder",
    "writing",
]


ONE_DATASET = "dataloader_train.dataset"
"""Where datasets name their keys in messages."""
_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}


@frozen(kw_only=True)
class Problem:
    """One thing the user can fix.

    message: what is wrong. key: dotted address of the value, if there is one. file/line: where it was written.
    hint: what to do about it.
    """

    message: str
    key: str = ""
    file: str = ""
    line: int | None = None
    hint: str = ""


class ReportedError(Exception):
    """An error that the command line prints without a traceback."""

    def __init__(self, title: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(title)
        self.title = title
        self.problems: tuple[Problem, ...] = tuple(problems)

    def __str__(self) -> str:
        return "\n  ".join([self.title, *(problem.message for problem in self.problems)])


class UserError(ReportedError):
    """Raised for anything the user can fix; exit code 2."""


class RunFailed(ReportedError):
    """Raised when training cannot continue, e.g. because the loss is not finite; exit code 1."""


class RankLost(RunFailed):
    """Raised when a process of the run died, hangs or does not stop; started again, the run may well succeed."""


@contextmanager
def disk_faults_reported(folder: Path) -> Iterator[None]:
    """Raise a UserError in place of an OSError that says that a disk is full, read-only or failing.

    folder: to name where the error names no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        hint = "mend the disk or free some space, then run the same command again"
        problem = Problem(message=error.strerror or str(error), file=file_of(error, folder), hint=hint)
        raise UserError("a file could not be written; checkpoints are complete", [problem]) from error


def file_of(error: OSError, written: Path) -> str:
    """The file that could not be written; `written` where the error names none. Of a copy it is the second name."""
    return str(error.filename2 or error.filename or written)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Around code that writes a file of the user's. Raises UserError where that fails."""
    try:
        yield
    except OSError as error:
        problem = Problem(message=error.strerror or str(error), file=file_of(error, file), hint="choose another place")
        raise UserError(f"{file} cannot be written", [problem]) from None


def make_folder(folder: Path, undone: str) -> None:
    """Create the folder that work of a while ends in, before the work begins.

    undone: ends the message, such as "nothing was read". Raises UserError when it cannot be created or written to.
    """
    from tempfile import TemporaryFile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        problem = Problem(message=error.strerror or str(error), file=str(folder), hint="choose another place")
        raise UserError(f"the output cannot be written; {undone}", [problem]) from None


def first_line(error: Exception) -> str:
    """The first line of its message; its type's name if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def as_problems(error: UserError, key: str) -> list[Problem]:
    """An error among the problems of a planned run: its own, under its title where they do not name a file.

    key: of the dataset's table or path; "" for an error of several.
    """
    title = error.title.removesuffix("; nothing was started")
    if not error.problems:
        return [Problem(message=title, key=key)]
    problems = in_table(error.problems, key.removesuffix(".path")) if key else error.problems
    return [
        problem if problem.file else evolve(problem, message=f"{title}: {problem.message}", key=problem.key or key)
        for problem in problems
    ]


def in_table(problems: Iterable[Problem], table: str) -> list[Problem]:
    """Problems of a dataset, which does not know where its table lies and names keys of ``dataloader_train.dataset``.

    table: where it lies.
    """

    def there(text: str) -> str:
        return text.replace(ONE_DATASET, table)

    return [
        evolve(problem, message=there(problem.message), key=there(problem.key), hint=there(problem.hint))
        for problem in problems
    ]
