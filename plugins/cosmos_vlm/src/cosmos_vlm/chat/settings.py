"""How answers are decoded, and how reasoning is asked for and told apart from the answer."""

from __future__ import annotations

from attrs import frozen

__all__ = ["PRESETS", "Reply", "Settings", "ask_for_reasoning", "split"]

OPEN, CLOSE = "<think>", "</think>"
REQUEST = (
    "Write your answer in this form:\n\n"
    f"{OPEN}\nyour reasoning, step by step\n{CLOSE}\n\n"
    f"Write the final answer right after the {CLOSE} tag."
)
"""Added to a user's text; the models were trained on a request of this shape."""


@frozen(kw_only=True)
class Settings:
    """Settings of transformers' `generate`. The defaults are greedy, as the cosmos-framework scripts decode.

    max_tokens: of an answer, reasoning included. temperature: 0 takes the likeliest token each time. top_p: sample from
    the likeliest tokens that have this share together; top_k: from so many; 0: from all.

    repetition_penalty: on tokens of prompt and answer, a factor. presence_penalty: on tokens of the answer, subtracted
    once from their logits.
    """

    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    seed: int = 0
    reasoning: bool = False


PRESETS = {
    "greedy": Settings(),
    "guide": Settings(max_tokens=4096, temperature=0.7, top_p=0.8, top_k=20, presence_penalty=1.5),
    "reasoning": Settings(max_tokens=4096, temperature=0.6, top_p=0.95, top_k=20, reasoning=True),
}
"""Greedy, and what the models' owners advise without and with reasoning."""


@frozen
class Reply:
    """What the model said. reasoning: '' if it did not reason. answer: '' if the reasoning did not end."""

    reasoning: str
    answer: str


def ask_for_reasoning(text: str) -> str:
    """A user's text with the request to reason first."""
    return f"{text}\n{REQUEST}"


def split(text: str) -> Reply:
    """The reasoning before ``</think>`` and the answer after it; reasoning that was cut off has no answer."""
    before, ended, after = text.partition(CLOSE)
    if ended:
        return Reply(before.strip().removeprefix(OPEN).strip(), after.strip())
    if text.lstrip().startswith(OPEN):
        return Reply(text.strip().removeprefix(OPEN).strip(), "")
    return Reply("", text.strip())
