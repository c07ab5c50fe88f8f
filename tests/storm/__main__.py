"""``python -m tests.storm --count 200 --seed 1``: random faults on runs of 1 to 4 processes, and what was lost.

Every run is resumed after each fault until it ends, and then compared with one that nothing happened to: each step's
loss and gradient norm must be the same, bit for bit. Between faults the newest checkpoint must be whole.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.storm.trials import Storm

__all__ = ["main"]


def main() -> int:
    """0 when nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 1, 2, 2, 3, 4], help="drawn from these")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cosmos-storm-") as folder:
        storm = Storm(Path(folder), options.seed, options.ranks)
        for number in range(1, options.count + 1):
            print(f"{number}/{options.count} {storm.trial()}", flush=True)
        storm.finish()
    counts = Counter(fault for fault, _ in storm.faults)
    print(", ".join(f"{fault}: {count}" for fault, count in sorted(counts.items())))
    print(f"in a save: {sum(saving for _, saving in storm.faults)}")
    print(f"survived: {len(storm.faults) - len(storm.lost)}")
    print(f"lost: {len(storm.lost)}")
    print(f"rows compared: {storm.rows}, differing: {storm.differing}")
    for line in storm.lost:
        print(line, file=sys.stderr)
    return 1 if storm.lost or storm.differing else 0


if __name__ == "__main__":
    sys.exit(main())
