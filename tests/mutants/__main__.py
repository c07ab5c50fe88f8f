"""``python -m tests.mutants --seed 1 --count 60``: draws, tries and reports mutants.

Exit code 1 when less than 95 % were caught, 2 when the tests fail without a fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.draw import Mutant, Table, TableError, draw
from tests.mutants.trial import Job, preload, verdicts

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
SHARE = 0.95
UNCHANGED = 600.0
"""Seconds for tests of the unchanged tree."""
LEAST, SLOWER = 30.0, 4.0
"""A trial may take the longer of this many seconds and this many times the tests of the unchanged tree."""


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--count", type=int, default=60, help="mutants to draw")
    parser.add_argument("--only", type=int, nargs="+", default=[], metavar="NUMBER", help="try these of the draw alone")
    parser.add_argument("--processes", type=int, default=2, help="trials at a time")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree")
    return parser.parse_args(words)


def _limits(root: Path, mutants: Sequence[Mutant], processes: int) -> dict[tuple[str, ...], float]:
    """Seconds for each list of tests. Raises TableError when tests fail without a fault."""
    lists = sorted({mutant.tests for mutant in mutants})
    limits = {}
    with tempfile.TemporaryDirectory(prefix="cosmos-mutants-") as folder:
        for _, verdict in verdicts(root, Path(folder), [Job(tests, UNCHANGED) for tests in lists], processes):
            tests = verdict.job.tests
            if verdict.code != 0:
                raise TableError(f"{' '.join(tests)} fail without a fault:\n{verdict.output[-3000:]}")
            limits[tests] = max(LEAST, SLOWER * verdict.seconds)
            print(f"unchanged: {' '.join(tests)} pass in {verdict.seconds:.1f} s", flush=True)
    return limits


def _survivors(root: Path, mutants: Sequence[Mutant], processes: int) -> list[Mutant]:
    limits = _limits(root, mutants, processes)
    jobs = [Job(mutant.tests, limits[mutant.tests], mutant.file, mutant.changed) for mutant in mutants]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="cosmos-mutants-") as folder:
        for place, verdict in verdicts(root, Path(folder), jobs, processes):
            mutant = mutants[place]
            word = "SURVIVED" if verdict.code == 0 else "out of time" if verdict.code is None else "caught"
            where = f"{mutant.file}:{mutant.line}"
            print(f"{mutant.number:3} {word:11} {verdict.seconds:5.1f} s  {where} {mutant.rule}", flush=True)
            if verdict.code == 0:
                survivors.append(mutant)
                print(mutant.diff, flush=True)
    return sorted(survivors, key=lambda mutant: mutant.number)


def main(words: Sequence[str]) -> int:
    """Returns the exit code."""
    options = _arguments(words)
    try:
        table = Table.read(options.root)
        mutants = draw(options.root, table, options.seed, max(options.count, *options.only, 0))
        if options.only:
            mutants = [mutant for mutant in mutants if mutant.number in options.only]
        preload(table.preload)
        survivors = _survivors(options.root, mutants, options.processes)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2
    caught = len(mutants) - len(survivors)
    share = caught / len(mutants)
    print(f"seed {options.seed}: {caught} of {len(mutants)} mutants caught ({share:.1%})")
    for mutant in survivors:
        print(f"survived: python -m tests.mutants --seed {options.seed} --only {mutant.number}")
    return 0 if share >= SHARE else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
