"""From one command to the ranks of a machine."""

from cosmos_core.launch.devices import visible_gpus
from cosmos_core.launch.ending import end_process
from cosmos_core.launch.supervisor import EXIT_CODES, exit_code, launch

__all__ = ["EXIT_CODES", "end_process", "exit_code", "launch", "visible_gpus"]
