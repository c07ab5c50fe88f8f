"""Checks for plugins, to call in a plugin's tests: one line for each contribution."""

from cosmos_core.testing.conformance import check_dataset, check_family
from cosmos_core.testing.contributions import check_contribution

__all__ = ["check_contribution", "check_dataset", "check_family"]
