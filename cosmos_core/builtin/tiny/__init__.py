"""A toy model family: small enough that a whole run takes seconds, real in every part that a run has."""

__all__: list[str] = []
