"""What a run will do: mesh, run directory, weights, checks. Nothing here needs torch."""

from cosmos_core.plan.base import read_base, write_base
from cosmos_core.plan.changes import Change
from cosmos_core.plan.layout import BASE_FILE, RunLayout, iteration_name
from cosmos_core.plan.make import make_plan, plan_in
from cosmos_core.plan.plan import Degrees, Resume, RunPlan
from cosmos_core.plan.preflight import preflight
from cosmos_core.plan.resume import latest_complete
from cosmos_core.plan.trained import Trained, trained_by
from cosmos_core.plan.warnings import warnings

__all__ = [
    "BASE_FILE",
    "Change",
    "Degrees",
    "Resume",
    "RunLayout",
    "RunPlan",
    "Trained",
    "iteration_name",
    "latest_complete",
    "make_plan",
    "plan_in",
    "preflight",
    "read_base",
    "trained_by",
    "warnings",
    "write_base",
]
