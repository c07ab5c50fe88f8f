"""Parameters of a network by what trains and by unit of sharding."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from cosmos_core.plan.costs import ParameterCounts

__all__ = ["count_parameters"]


def count_parameters(model: nn.Module, units: Iterable[nn.Module], alone: Iterable[nn.Module] = ()) -> ParameterCounts:
    """Of a network. units: the modules that are sharded one by one; the rest is the root unit.

    alone: further ones that are gathered when no other is, or never.
    """
    trained = _elements(model, trained=True)
    every = _elements(model)
    of_units = [(_elements(unit), _elements(unit, trained=True)) for unit in units]
    return ParameterCounts(
        trained=trained,
        frozen=every - trained,
        root=every - sum(count for count, _ in of_units) - sum(map(_elements, alone)),
        root_trained=trained - sum(count for _, count in of_units),
        unit=max(count for count, _ in of_units),
        unit_trained=max(count for _, count in of_units),
    )


def _elements(module: nn.Module, *, trained: bool = False) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad or not trained)
