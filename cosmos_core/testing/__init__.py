"""The kit that tells whether a plugin keeps its promises; one line in a test for each thing a plugin offers."""

from cosmos_core.testing.conformance import check_dataset, check_family
from cosmos_core.testing.contributions import check_contribution

__all__ = ["check_contribution", "check_dataset", "check_family"]
