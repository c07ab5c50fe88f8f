"""BridgeData2 video and structured captions for cosmos."""

__all__ = ["__version__"]

__version__ = "0.1.0"
