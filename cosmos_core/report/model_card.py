"""What an export says of itself: ``cosmos_export.json``, ``cosmos_config.toml`` and the model card ``README.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import evolve

from cosmos_core import __version__
from cosmos_core.config.dump import to_toml
from cosmos_core.config.run import RunConfig
from cosmos_core.config.secrets import without_secrets
from cosmos_core.plan.base import read_base
from cosmos_core.plan.export_record import ExportRecord, write_export
from cosmos_core.plan.paths import EXPORT_CONFIG, RunPaths, step_of
from cosmos_core.plan.source import Source
from cosmos_core.plugin.descriptors import Conversion, ExportUse
from cosmos_core.report.metric_values import finite_number, number_text
from cosmos_core.report.metrics_file import read_metrics
from cosmos_core.report.record import RunRecord, read_record

__all__ = ["write_description"]

FACTS = ("recipe", "overrides", "training data", "validation data", "sources")
"""Of the run, in the card."""
STEP_METRICS = ("loss", "step")
"""Of the last step; all other metrics are about the run, not the model."""


def write_description(source: Source, request: Conversion, config: RunConfig | None, use: ExportUse) -> None:
    """Write the files into the export that `request` made of `source`. config: of the run, None without one."""
    record = read_record(source.run_dir) if source.run_dir is not None else None
    described = _described(source, request, config, use, record)
    write_export(request.output, described)
    if config is not None:
        # [custom] is free-form, so nobody can tell what is in it.
        text = without_secrets(to_toml(evolve(config, custom={})))
        (request.output / EXPORT_CONFIG).write_text(text, encoding="utf-8")
    card = _card(source, described, config, use, record, adapter=bool(request.options.get("adapter")))
    (request.output / "README.md").write_text(without_secrets(card), encoding="utf-8", errors="replace")


def _described(
    source: Source, request: Conversion, config: RunConfig | None, use: ExportUse, record: RunRecord | None
) -> ExportRecord:
    facts = record.facts if record is not None else {}
    origin = read_base(request.base).get("origin", "") if request.base is not None else ""
    return ExportRecord(
        task=config.job.task if config is not None else "",
        run=str(source.run_dir.resolve()) if source.run_dir is not None else "",
        step=step_of(request.source),
        weights=request.options.get("weights")
        or ("ema" if config is not None and config.model.ema.enabled else "live"),
        base=use.base_model or str(origin) or facts.get("base", ""),
        data={name: facts[name] for name in ("training data", "validation data") if name in facts},
        generation=dict(use.generation),
    )


def _card(
    source: Source,
    export: ExportRecord,
    config: RunConfig | None,
    use: ExportUse,
    record: RunRecord | None,
    *,
    adapter: bool,
) -> str:
    """The text of README.md, with the front matter that the Hub reads."""
    name = config.job.name if config is not None else source.folder.name
    parts = [_front_matter(use, adapter=adapter), f"# {name}\n"]
    origin = "Adapters (LoRA) for" if adapter else "A fine-tune of" if config is not None else "An export of"
    line = f"{origin} {export.base}" if export.base else "Weights trained from scratch"
    parts.append(f"{line}, made with cosmos-core {__version__}.\n")
    facts = record.facts if record is not None else {}
    rows = {
        "base": export.base or "none: trained from fresh weights",
        "weights": f"{'the moving average' if export.weights == 'ema' else 'live weights'} after step {export.step}"
        if export.step is not None
        else "",
        **{name: facts.get(name, "") for name in FACTS},
    }
    parts.append(_table(("", ""), {name: text for name, text in rows.items() if text}))
    if source.run_dir is not None and (metrics := _metrics(source.run_dir, export.step)):
        parts += ["## Metrics\n", _table(("metric", "value"), metrics)]
    if use.code:
        parts += ["## Use\n", "In this folder:\n", f"```python\n{use.code.strip()}\n```\n"]
    if export.generation:
        parts += [
            "## Defaults\n",
            _table(("setting", "value"), {n: json.dumps(v) for n, v in export.generation.items()}),
        ]
    if config is not None:
        data = "on the same data" if config.dataloader_val is not None else "on DATA, a file or folder of yours"
        words = "FOLDER" if config.dataloader_val is not None else "FOLDER DATA"
        evaluate = f"With cosmos, `cosmos eval {words}` evaluates these weights {data}."
        parts.append(f"`{EXPORT_CONFIG}` holds every setting of the run. {evaluate}\n")
    return "\n".join(parts)


def _front_matter(use: ExportUse, *, adapter: bool) -> str:
    values = {
        "library_name": "peft" if adapter and use.library == "transformers" else use.library,
        "pipeline_tag": use.pipeline,
        "base_model": use.base_model,
        "base_model_relation": ("adapter" if adapter else "finetune") if use.base_model else "",
        "tags": ["cosmos3", "fine-tuned", *(["lora"] if adapter else [])],
    }
    text = yaml.safe_dump({name: value for name, value in values.items() if value}, sort_keys=False)
    return f"---\n{text}---\n"


def _metrics(run_dir: Path, step: int | None) -> dict[str, str]:
    """The newest losses and scores that the run had recorded when it had done `step` steps."""
    metrics = read_metrics(RunPaths(run_dir).metrics)
    trained = [record for record in metrics.steps if step is None or record["step"] <= step][-1:]
    validated = [record for record in metrics.validations if step is None or record["step"] <= step][-1:]
    newest = {name: finite_number(record.get(name)) for record in trained for name in STEP_METRICS}
    newest |= {name: finite_number(value) for record in validated for name, value in record.items() if name != "step"}
    return {name: number_text(value) for name, value in newest.items() if value is not None}


def _table(columns: tuple[str, str], rows: Mapping[str, Any]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {_cell(name)} | {_cell(text)} |" for name, text in rows.items())]) + "\n"


def _cell(text: Any) -> str:
    """Text in a table of Markdown: one line, and no HTML."""
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
