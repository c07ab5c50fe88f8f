"""From one command to the ranks of a machine."""

from cosmos_core.launch.devices import visible_gpus
from cosmos_core.launch.hard_exit import hard_exit
from cosmos_core.launch.outcome import EXIT_CODES
from cosmos_core.launch.supervisor import launch

__all__ = ["EXIT_CODES", "hard_exit", "launch", "visible_gpus"]
