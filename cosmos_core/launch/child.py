"""A process of a launch: ``python -m cosmos_core.launch.child PARENT MODULE:FUNCTION ARGUMENTS...``.

It belongs to its parent from the start, before the seconds that importing torch takes.
"""

from __future__ import annotations

import sys

from cosmos_core.launch.hard_exit import hard_exit
from cosmos_core.launch.parent import follow_parent
from cosmos_core.refs import Ref

__all__: list[str] = []

if __name__ == "__main__":
    follow_parent(int(sys.argv[1]))
    hard_exit(Ref(sys.argv[2]).load()(*sys.argv[3:]))
