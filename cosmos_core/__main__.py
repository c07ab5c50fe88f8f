"""The commands `cosmos` and `python -m cosmos_core`."""

import signal
import sys
from typing import NoReturn

from cosmos_core.stop_signals import STOP_SIGNALS, end_at_once_on

__all__ = ["main"]


def main() -> NoReturn:
    """Handle signals, then import the command line and run it: what it imports takes most of a short command.

    `cosmos run` decides about the signals of a stop itself as soon as it can. Every other command ends on them by
    default, and cleans up after Ctrl-C.
    """
    runs = sys.argv[1:2] == ["run"]
    end_at_once_on(STOP_SIGNALS if runs else (signal.SIGINT,))
    from cosmos_core.cli.main import main as command

    if not runs and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
