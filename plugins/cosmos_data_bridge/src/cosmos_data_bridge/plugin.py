"""What this distribution offers to cosmos."""

__all__ = ["COSMOS_API"]

COSMOS_API = 1
