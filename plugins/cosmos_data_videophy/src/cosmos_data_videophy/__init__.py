"""VideoPhy-2 physical plausibility scoring for cosmos."""

__all__ = ["__version__"]

__version__ = "0.1.0"
