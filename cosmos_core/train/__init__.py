"""The training loop, and what families, callbacks and trackers implement."""

import sys
from types import ModuleType

from cosmos_core.launch.train import train as _train
from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.counts import count_parameters
from cosmos_core.train.family import Batch, BuildContext, Estimate, ModelFamily, StepOutput
from cosmos_core.train.flops import Backward
from cosmos_core.train.model_input import ModelInput
from cosmos_core.train.scores import rank_correlation
from cosmos_core.train.tracker import Media, Tracker
from cosmos_core.train.trainer import Trainer

__all__ = [
    "Backward",
    "Batch",
    "BuildContext",
    "Callback",
    "CallbackContext",
    "Estimate",
    "Media",
    "ModelFamily",
    "ModelInput",
    "StepOutput",
    "Tracker",
    "Trainer",
    "count_parameters",
    "rank_correlation",
]


class _CallableModule(ModuleType):
    """This room, which can be called as `cosmos_core.train(...)`.

    Importing a room binds its name in the package. Here that name is the function's too, so the room stands for both.
    """

    __call__ = staticmethod(_train)


sys.modules[__name__].__class__ = _CallableModule
