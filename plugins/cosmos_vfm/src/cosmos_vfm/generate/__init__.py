"""`cosmos generate`: from prompts and weights to clips, pictures and a page that plays them."""

__all__: list[str] = []
