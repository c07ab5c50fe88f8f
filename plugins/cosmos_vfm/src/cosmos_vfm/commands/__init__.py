"""Commands of the generator."""

__all__: list[str] = []
