"""cosmos: supervised fine-tuning of Cosmos 3 models, extended by plugins.

    import cosmos_core as cosmos

    run = cosmos.train("vision_sft_demo", {"trainer.max_iter": 10})
    print(run.run_dir, run.metrics[-1])

Importing this package imports nothing else; names are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["RunFailed", "RunResult", "UserError", "__version__", "train"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cosmos_core.errors import RunFailed, UserError
    from cosmos_core.launch.train import RunResult, train

_HOMES = {
    "RunFailed": "cosmos_core.errors",
    "RunResult": "cosmos_core.launch.train",
    "UserError": "cosmos_core.errors",
    "train": "cosmos_core.launch.train",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
