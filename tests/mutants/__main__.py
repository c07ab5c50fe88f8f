"""``python -m tests.mutants --seed 1 --count 60``: draws, tries and reports mutants.

Exit code 1 when less than 95 % were caught, 2 when the tests fail without a fault.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.mutants.draw import Mutant, Table, TableError, draw
from tests.mutants.trial import Job, copied, preload, verdicts

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
SHARE = 0.95
UNCHANGED = 600.0
"""Seconds for tests of the unchanged tree."""
SLOWER = 4.0
"""Times the tests of the unchanged tree that a trial may take."""


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--count", type=int, default=60, help="mutants to draw")
    parser.add_argument("--only", type=int, nargs="+", default=[], metavar="NUMBER", help="try these of the draw alone")
    parser.add_argument("--below", default="", metavar="PATH", help="draw from files whose path begins like this alone")
    parser.add_argument("--processes", type=int, default=2, help="trials at a time")
    parser.add_argument("--least", type=float, default=30.0, help="seconds that every trial may take")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree")
    return parser.parse_args(words)


def _limits(trees: Sequence[Path], mutants: Sequence[Mutant], least: float) -> dict[tuple[str, ...], float]:
    """Seconds for each list of tests. Raises TableError when tests fail without a fault."""
    lists = sorted({mutant.tests for mutant in mutants})
    limits = {}
    for _, verdict in verdicts(trees, [Job(tests, UNCHANGED) for tests in lists]):
        tests = verdict.job.tests
        if verdict.code != 0:
            raise TableError(f"{' '.join(tests)} fail without a fault:\n{verdict.output[-3000:]}")
        limits[tests] = max(least, SLOWER * verdict.seconds)
        print(f"unchanged: {' '.join(tests)} pass in {verdict.seconds:.1f} s", flush=True)
    return limits


def _survivors(trees: Sequence[Path], mutants: Sequence[Mutant], least: float) -> list[Mutant]:
    limits = _limits(trees, mutants, least)
    jobs = [Job(mutant.tests, limits[mutant.tests], mutant.file, mutant.changed) for mutant in mutants]
    survivors = []
    for place, verdict in verdicts(trees, jobs):
        mutant = mutants[place]
        word = "SURVIVED" if verdict.code == 0 else "out of time" if verdict.code is None else "caught"
        where = f"{mutant.file}:{mutant.line}"
        print(f"{mutant.number:3} {word:11} {verdict.seconds:5.1f} s  {where} {mutant.rule}", flush=True)
        if verdict.code == 0:
            survivors.append(mutant)
            print(mutant.diff, flush=True)
    return sorted(survivors, key=lambda mutant: mutant.number)


def _leave(number: int, frame: object) -> NoReturn:
    """Through the `finally` of what is running, so that no trial and no copy of the tree stays behind."""
    raise SystemExit(128 + number)


def main(words: Sequence[str]) -> int:
    """Returns the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    options = _arguments(words)
    try:
        table = Table.read(options.root, options.below)
        mutants = draw(options.root, table, options.seed, max(options.count, *options.only, 0))
        if options.only:
            mutants = [mutant for mutant in mutants if mutant.number in options.only]
        if not mutants:
            raise TableError("there is no such mutant; --below and --only leave none")
        preload(table.preload)
        with tempfile.TemporaryDirectory(prefix="cosmos-mutants-") as folder:
            trees = [copied(options.root, Path(folder) / f"tree_{number}") for number in range(options.processes)]
            survivors = _survivors(trees, mutants, options.least)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2
    caught = len(mutants) - len(survivors)
    share = caught / len(mutants)
    print(f"seed {options.seed}: {caught} of {len(mutants)} mutants caught ({share:.1%})")
    below = f" --below {options.below}" if options.below else ""
    for mutant in survivors:
        print(f"survived: python -m tests.mutants --seed {options.seed}{below} --only {mutant.number}")
    return 0 if share >= SHARE else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
