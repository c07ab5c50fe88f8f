"""Talks with a reasoner: its weights in transformers' model, answers, conversations, files of prompts."""

__all__: list[str] = []
