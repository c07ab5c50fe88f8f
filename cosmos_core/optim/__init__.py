"""What trains and how: selection, AdamW, schedules, moving average."""

from cosmos_core.optim.adamw import adamw_step, build_adamw
from cosmos_core.optim.ema import Ema
from cosmos_core.optim.lora import initialise_lora, inject_lora, is_lora, trains_only_lora
from cosmos_core.optim.norm import clip_to, gradient_norm
from cosmos_core.optim.schedule import build_scheduler
from cosmos_core.optim.select import ParameterGroup, learning_rates, parameter_groups, rate_names, select_trainable
from cosmos_core.plan.schedule import factor

__all__ = [
    "Ema",
    "ParameterGroup",
    "adamw_step",
    "build_adamw",
    "build_scheduler",
    "clip_to",
    "factor",
    "gradient_norm",
    "initialise_lora",
    "inject_lora",
    "is_lora",
    "learning_rates",
    "parameter_groups",
    "rate_names",
    "select_trainable",
    "trains_only_lora",
]
