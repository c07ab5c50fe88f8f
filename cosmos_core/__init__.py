"""cosmos: supervised fine-tuning of Cosmos 3 models, extended by plugins. Importing this package costs nothing."""

__all__ = ["__version__"]

__version__ = "0.1.0"
