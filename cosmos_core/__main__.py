"""`python -m cosmos_core`, the same as `cosmos`."""

from cosmos_core.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
