"""The training loop, and what families, callbacks and trackers implement."""

from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.family import Batch, BuildContext, Estimate, ModelFamily, StepOutput
from cosmos_core.train.tracker import Tracker
from cosmos_core.train.trainer import Trainer

__all__ = [
    "Batch",
    "BuildContext",
    "Callback",
    "CallbackContext",
    "Estimate",
    "ModelFamily",
    "StepOutput",
    "Tracker",
    "Trainer",
]
