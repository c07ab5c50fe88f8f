"""What a run will do: mesh, run directory, weights, checks. Nothing here needs torch."""

from cosmos_core.plan.base import read_base, write_base
from cosmos_core.plan.changes import Change
from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.costs import Estimate, overlong_notes, usual_samples
from cosmos_core.plan.export_record import ExportRecord, read_export
from cosmos_core.plan.make import make_plan, plan_in
from cosmos_core.plan.paths import BASE_FILE, RunPaths, iteration_name
from cosmos_core.plan.plan import Degrees, RunPlan, WeightSource
from cosmos_core.plan.preflight import preflight
from cosmos_core.plan.source import Source, locate_source
from cosmos_core.plan.trained import Trained, trained_by
from cosmos_core.plan.warnings import warnings

__all__ = [
    "BASE_FILE",
    "Change",
    "Degrees",
    "Estimate",
    "ExportRecord",
    "RunPaths",
    "RunPlan",
    "Source",
    "Trained",
    "WeightSource",
    "iteration_name",
    "latest_complete",
    "locate_source",
    "make_plan",
    "overlong_notes",
    "plan_in",
    "preflight",
    "read_base",
    "read_export",
    "trained_by",
    "usual_samples",
    "warnings",
    "write_base",
]
