"""From one command to the ranks of a machine."""

from cosmos_core.launch.devices import visible_gpus
from cosmos_core.launch.hard_exit import hard_exit
from cosmos_core.launch.supervisor import EXIT_CODES, exit_code, launch

__all__ = ["EXIT_CODES", "exit_code", "hard_exit", "launch", "visible_gpus"]
