"""The training loop, and what families, callbacks and trackers implement."""

from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.family import Batch, BuildContext, ModelFamily, StepOutput
from cosmos_core.train.state import TrainState
from cosmos_core.train.tracker import Tracker

__all__ = [
    "Batch",
    "BuildContext",
    "Callback",
    "CallbackContext",
    "ModelFamily",
    "StepOutput",
    "Tracker",
    "TrainState",
]
