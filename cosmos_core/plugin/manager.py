"""Loads plugins one by one; an error in a plugin disables only that plugin."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
from attrs import evolve

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean
from cosmos_core.plugin.descriptors import DataPath, Spec
from cosmos_core.plugin.discovery import BUILTIN, Candidate, candidates
from cosmos_core.plugin.hookspecs import CONTRIBUTIONS, PROJECT, HookSpecs
from cosmos_core.plugin.registry import Entry, Registry
from cosmos_core.plugin.status import PluginStatus, describe_failure

__all__ = ["COSMOS_API", "PluginManager"]

COSMOS_API = 1
"""Increased only when an existing plugin would break."""

HEAVY = "torch"
SLOW = 500.0
"""Milliseconds of registration above which a plugin gets a warning."""


def _warning(milliseconds: float, imported_torch: bool) -> str:
    """The warning about a plugin's registration, or ''."""
    remarks = []
    if imported_torch:
        remarks.append(f"imports {HEAVY} while registering")
    if imported_torch or milliseconds > SLOW:
        remarks.append(f"adds {milliseconds:.0f} ms to every command")
    return ", ".join(remarks)


def _check_disabled(disabled: Collection[str], plugins: Iterable[Candidate]) -> None:
    of_distribution = {plugin.distribution: plugin.name for plugin in plugins if plugin.name != BUILTIN.name}
    known = list(of_distribution.values())
    problems = []
    for name in sorted(set(disabled) - set(known)):
        own = f"did you mean '{of_distribution[name]}'?" if name in of_distribution else ""
        message = "the built-in plugin is always loaded" if name == BUILTIN.name else f"no installed plugin is '{name}'"
        hint = own or did_you_mean(name, known) or f"installed: {', '.join(known)}"
        problems.append(Problem(message=message, key="COSMOS_DISABLE_PLUGINS", file="environment", hint=hint))
    if problems:
        raise UserError("COSMOS_DISABLE_PLUGINS names what cannot be disabled; nothing was started", problems)


class PluginManager:
    """All plugins of this environment. Created by the command line or a test and passed on; there is no global one."""

    def __init__(self, plugins: Iterable[Candidate], disabled: Collection[str] = ()) -> None:
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(HookSpecs)
        entries: list[Entry[Spec]] = []
        self.statuses: list[PluginStatus] = []
        for candidate in plugins:
            start, torch_before = time.perf_counter(), HEAVY in sys.modules
            status = self._load(candidate, disabled)
            if status.state == "ok":
                status, contributed = self._collect(status)
                entries.extend(contributed)
            spent = 1000 * (time.perf_counter() - start)
            warning = _warning(spent, HEAVY in sys.modules and not torch_before)
            self.statuses.append(evolve(status, milliseconds=spent, warning=warning if status.state == "ok" else ""))
        self.registry = Registry(entries, self.statuses)

    @classmethod
    def discover(cls, disabled: Collection[str] = ()) -> PluginManager:
        """Every installed plugin, the built-in one first. Raises UserError when `disabled` names none of them."""
        plugins = candidates()
        _check_disabled(disabled, plugins)
        return cls(plugins, disabled)

    @property
    def distributions(self) -> dict[str, str]:
        """Version of every distribution with a usable plugin."""
        return {
            status.candidate.distribution: status.candidate.version
            for status in self.statuses
            if status.state == "ok" and status.candidate.version
        }

    def check_run(self, plan: Any) -> list[Problem]:
        """Problems that plugins find in a planned run. A check that fails is a problem too."""
        problems: list[Problem] = []
        for name, module in self._usable.items():
            try:
                for answer in self._call("cosmos_check_run", module, plan=plan):
                    problems.extend(answer)
            except Exception as error:
                failure = describe_failure(error, vars(module).get("cosmos_check_run"))
                reason = f"the check of plugin {name} failed: {failure}"
                problems.append(Problem(message=reason, hint=f"COSMOS_DISABLE_PLUGINS={name} skips it"))
        return problems

    def identify_checkpoint(self, path: Path) -> str | None:
        """The format of a checkpoint folder from the first plugin that knows it; a plugin that fails is skipped."""
        modules = list(self._usable.values())
        for module in (*modules[1:], *modules[:1]):
            try:
                checkpoint_format = self._call("cosmos_identify_checkpoint", module, path=path)
            except Exception:
                continue
            if isinstance(checkpoint_format, str):
                return checkpoint_format
        return None

    def identify_data(self, path: Path) -> DataPath | None:
        """How the data at a path is read, by the first plugin that knows; a plugin that fails is skipped.

        Raises UserError for a file that cannot be read.
        """
        for module in self._usable.values():
            try:
                data = self._call("cosmos_identify_data", module, path=path)
            except UserError:
                raise
            except Exception:
                continue
            if isinstance(data, DataPath):
                return data
        return None

    @property
    def _usable(self) -> dict[str, ModuleType]:
        """The module of each plugin that is ok, by its name; the built-in one first."""
        return {
            status.candidate.name: status.module
            for status in self.statuses
            if status.state == "ok" and status.module is not None
        }

    def _load(self, candidate: Candidate, disabled: Collection[str]) -> PluginStatus:
        if candidate.name in disabled and candidate.module != BUILTIN.module:
            return PluginStatus(candidate=candidate, state="disabled", reason="COSMOS_DISABLE_PLUGINS names it")
        try:
            module = import_module(candidate.module)
            api = getattr(module, "COSMOS_API", None)
            if api != COSMOS_API:
                reason = f"written for COSMOS_API {api}, this is {COSMOS_API}"
                return PluginStatus(candidate=candidate, state="outdated", reason=reason)
            if unknown := self._unknown_hooks(module):
                return PluginStatus(candidate=candidate, state="broken", reason="; ".join(unknown))
            self._pluggy.register(module, candidate.name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return PluginStatus(candidate=candidate, state="broken", reason=describe_failure(error))
        return PluginStatus(candidate=candidate, state="ok", module=module)

    def _unknown_hooks(self, module: ModuleType) -> list[str]:
        """What is wrong with hooks that do not exist."""
        unknown = []
        known = [name for name in vars(HookSpecs) if name.startswith("cosmos_")]
        for name, function in vars(module).items():
            options = self._pluggy.parse_hookimpl_opts(module, name)
            if options is not None and not options["optionalhook"] and name not in known:
                error = AttributeError(f"unknown hook '{name}' {did_you_mean(name, known)}".rstrip())
                unknown.append(describe_failure(error, function))
        return unknown

    def _collect(self, status: PluginStatus) -> tuple[PluginStatus, list[Entry[Spec]]]:
        assert status.module is not None
        entries: list[Entry[Spec]] = []
        for hook, kind in CONTRIBUTIONS.items():
            try:
                for answer in self._call(hook, status.module):
                    for spec in answer:
                        if not isinstance(spec, kind):
                            raise TypeError(f"{hook} must yield {kind.__name__}, got {type(spec).__name__}")
                        entries.append(Entry(spec, status.candidate))
            except Exception as error:
                self._pluggy.unregister(status.module)
                reason = describe_failure(error, vars(status.module).get(hook))
                return PluginStatus(candidate=status.candidate, state="broken", reason=reason), []
        names = tuple(f"{entry.spec.kind} {entry.spec.name}" for entry in entries)
        ok = PluginStatus(candidate=status.candidate, state="ok", provides=names, module=status.module)
        return ok, entries

    def _call(self, hook: str, module: ModuleType, **arguments: Any) -> Any:
        """Call one hook of one plugin."""
        others = [plugin for plugin in self._pluggy.get_plugins() if plugin is not module]
        return self._pluggy.subset_hook_caller(hook, others)(**arguments)
