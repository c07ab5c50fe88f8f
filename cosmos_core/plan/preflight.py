"""Everything that can be known to fail, found before a process starts."""

from __future__ import annotations

from cosmos_core.config.run import DataloaderConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plugin.manager import PluginManager

__all__ = ["preflight"]


def preflight(plan: RunPlan, plugins: PluginManager) -> None:
    """Raises UserError with every problem of the plan that core or a plugin can see."""
    problems = [*_records(plan, plugins), *plugins.check_run(plan)]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{count} with the planned run; nothing was started", problems)


def _records(plan: RunPlan, plugins: PluginManager) -> list[Problem]:
    """Datasets whose records the family does not accept."""
    family = plugins.catalog.family(plan.config.job.task)
    loaders: dict[str, DataloaderConfig | None] = {
        "dataloader_train": plan.config.dataloader_train,
        "dataloader_val": plan.config.dataloader_val,
    }
    problems = []
    for name, loader in loaders.items():
        if loader is None:
            continue
        dataset = plugins.catalog.dataset(loader.dataset.type)
        if dataset.yields not in family.accepts:
            message = (
                f"dataset '{dataset.name}' yields '{dataset.yields}', "
                f"model family '{family.name}' accepts {', '.join(family.accepts)}"
            )
            problems.append(Problem(message=message, key=f"{name}.dataset.type", hint="choose a matching pair"))
    return problems
