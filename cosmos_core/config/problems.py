"""Problems in the order of their places, and as text, each with its location and hint."""

from __future__ import annotations

from collections.abc import Iterable

from cosmos_core.config.secrets import without_secrets
from cosmos_core.errors import Problem, ReportedError

__all__ = ["in_order", "render", "render_problem"]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file and line; those without a line come last, as they came."""
    return sorted(problems, key=lambda problem: (1, "", 0) if problem.line is None else (0, problem.file, problem.line))


def render(error: ReportedError) -> str:
    """The text that the command line prints."""
    lines = [f"error: {error.title}", *(f"  {render_problem(problem)}" for problem in error.problems)]
    text = "\n".join(lines)
    # A name may hold what no terminal and no file takes: half a character, or NUL.
    return without_secrets(text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0"))


def render_problem(problem: Problem) -> str:
    """One problem in one line: location, key, message, hint."""
    location = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    text = f"{problem.key}: {problem.message}" if problem.key else problem.message
    if problem.hint:
        text = f"{text}; {problem.hint}"
    return f"{location}  {text}" if location else text
