"""Files of prompts, and files of answers that a second call continues."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TextIO

from attrs import frozen

from cosmos_core.console import progress
from cosmos_core.data import Chat, Message, UnreadableSample
from cosmos_core.data.chat import MediaReader, parse_dialog, to_chat
from cosmos_core.errors import Problem, UserError, writing
from cosmos_core.names import counted
from cosmos_core.strict_json import loads
from cosmos_core.text_files import read_text
from cosmos_vlm.chat.answers import answers
from cosmos_vlm.chat.conversation import Clips
from cosmos_vlm.chat.model import ChatModel
from cosmos_vlm.chat.settings import Settings, ask_for_reasoning, split
from cosmos_vlm.chat_processor import TokenizedPrompt
from cosmos_vlm.data.rows import dialog_id

__all__ = ["Job", "Row", "answer_rows", "read_rows"]

PLACES = {"image": "<image>", "video": "<video>"}
BEGIN = '{"line": '
"""How an answer's record begins."""
NOTHING = {"role": "assistant", "content": "-"}
"""Stands for the answer that a row lacks, since dialogs are read as those of training data."""


@frozen
class Row:
    """line: its number in the file. values: a dialog in one of the usual forms that ends with an answer.

    reference: whether that answer is the data's own.
    """

    line: int
    key: str
    values: Mapping[str, Any]
    reference: bool


def read_rows(path: Path) -> list[Row]:
    """All rows of a JSONL file. Raises UserError with file and line of every wrong one."""
    rows, problems = [], []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _row(number, loads(line))
            if len(parse_dialog(row.values).turns) < 2:
                raise ValueError("there is nothing before the answer")
            rows.append(row)
        except JSONDecodeError as error:
            problems.append(Problem(message=f"is not JSON: {error.msg}", file=str(path), line=number))
        except ValueError as error:
            problems.append(Problem(message=str(error), file=str(path), line=number))
    if problems:
        raise UserError(f"{counted(len(problems), 'problem')} in {path}; nothing was answered", problems)
    if not rows:
        hint = 'write one object a line, such as {"prompt": "What happens?", "video": "clip.mp4"}'
        raise UserError("there are no prompts", [Problem(message="has no rows", file=str(path), hint=hint)])
    return rows


def _row(number: int, values: Any) -> Row:
    """Raises ValueError."""
    if not isinstance(values, dict):
        raise ValueError("is not an object")
    key = dialog_id(values) or str(number)
    if "prompt" in values:
        return Row(number, key, _of_prompt(values), reference=False)
    for name, role in (("messages", "role"), ("conversations", "from")):
        turns = values.get(name)
        if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
            if turns[-1].get(role, turns[-1].get("role")) in ("assistant", "gpt"):
                return Row(number, key, values, reference=True)
            answer = {**NOTHING} if "role" in turns[-1] else {"from": "gpt", "value": NOTHING["content"]}
            return Row(number, key, {**values, name: [*turns, answer]}, reference=False)
    if "query" in values and "response" not in values:
        return Row(number, key, {**values, "response": NOTHING["content"]}, reference=False)
    if not values.keys() & {"messages", "conversations", "response"}:
        raise ValueError("there is no field prompt, query, messages or conversations")
    return Row(number, key, values, reference="response" in values)


def _of_prompt(values: dict[str, Any]) -> dict[str, Any]:
    """A dialog of a text with media, which come first where the text says no places."""
    text = values["prompt"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the prompt is no text")
    if unknown := sorted(values.keys() - {"id", "prompt", "system", "image", "images", "video", "videos"}):
        raise ValueError(f"has the field {unknown[0]} beside prompt, which is not used")
    media: dict[str, list[Any]] = {}
    for kind in PLACES:
        given = [value for name in (kind, f"{kind}s") if (value := values.get(name)) is not None]
        media[f"{kind}s"] = [entry for value in given for entry in (value if isinstance(value, list) else [value])]
    if not any(place in text for place in PLACES.values()):
        text = "".join(place * len(media[f"{kind}s"]) for kind, place in PLACES.items()) + text
    system = [{"role": "system", "content": values["system"]}] if values.get("system") else []
    return {"messages": [*system, {"role": "user", "content": text}, NOTHING], **media}


@frozen(kw_only=True)
class Job:
    """A file of prompts to answer. models: each answers every prompt. batch: prompts that are answered together."""

    source: Path
    output: Path
    models: Sequence[ChatModel]
    settings: Settings
    clips: Clips
    batch: int

    @property
    def media(self) -> MediaReader:
        """Finds what rows name beside their file, or under its whole path."""
        folder = self.source.absolute().parent
        clips = self.clips
        return MediaReader(folder, (folder,), ("/",), target_fps=clips.fps, max_frames=clips.max_frames)


def answer_rows(job: Job, rows: Sequence[Row]) -> int:
    """Append a record for each row that the output lacks; returns how many.

    Raises UserError when the output holds other answers, and at the end for rows whose media cannot be used.
    """
    answered = _answered(job, rows)
    rest = [row for row in rows if row.line not in answered]
    problems: list[Problem] = []
    with writing(job.output):
        job.output.parent.mkdir(parents=True, exist_ok=True)
        job.output.touch()
    with (
        job.output.open("a", encoding="utf-8", errors="replace") as file,
        progress("answering", len(rest), "prompts") as answering,
    ):
        for start in range(0, len(rest), job.batch):
            part = rest[start : start + job.batch]
            problems += _answer_batch(job, part, file)
            answering.advance(len(part))
    if problems:
        left = f"{len(problems)} of {len(rest)} prompts cannot be answered"
        raise UserError(f"{left}; the other answers are in {job.output}", problems)
    return len(rest)


def _answer_batch(job: Job, rows: Sequence[Row], file: TextIO) -> list[Problem]:
    """Answer a batch; returns why rows could not be."""
    prompts: list[tuple[Row, list[TokenizedPrompt]]] = []
    problems = []
    for row in rows:
        try:
            dialog = to_chat(row.values, row.key, "", job.media)
            prompt = Chat(row.key, _prompt(dialog.messages, job.settings), dialog.tools)
            prompts.append((row, [model.processor.prompt(prompt) for model in job.models]))
        except UnreadableSample as error:
            message = f"{error.where.removeprefix(': ')}: {error.reason}"
            problems.append(Problem(message=message, file=str(job.source), line=row.line))
    if not prompts:
        return problems
    texts = [
        answers(model, [own[number] for _, own in prompts], job.settings) for number, model in enumerate(job.models)
    ]
    with writing(job.output):
        for (row, _), outputs in zip(prompts, zip(*texts, strict=True), strict=True):
            file.write(json.dumps(_record(row, job.models, outputs), ensure_ascii=False) + "\n")
        file.flush()
    return problems


def _prompt(messages: Sequence[Message], settings: Settings) -> tuple[Message, ...]:
    """The messages before the last answer, the last of the user's with the request to reason where it is on."""
    *before, _ = messages
    if settings.reasoning:
        *before, last = before
        texts = [index for index, part in enumerate(last.content) if isinstance(part, str)]
        place = texts[-1] if texts else None
        content = [
            ask_for_reasoning(part) if isinstance(part, str) and index == place else part
            for index, part in enumerate(last.content)
        ]
        before.append(Message(last.role, tuple(content), last.tool_calls))
    return tuple(before)


def _record(row: Row, models: Sequence[ChatModel], texts: Sequence[str]) -> dict[str, Any]:
    """line, id and answer, of several models by label; the data's own answer, if it has one."""
    record: dict[str, Any] = {"line": row.line, "id": row.key}
    replies = [_told(text) for text in texts]
    labelled = dict(zip((model.label for model in models), replies, strict=True))
    record |= replies[0] if len(models) == 1 else {"answers": labelled}
    return record | ({"reference": _reference(row.values)} if row.reference else {})


def _told(text: str) -> dict[str, str]:
    reply = split(text)
    return {"answer": reply.answer, **({"reasoning": reply.reasoning} if reply.reasoning else {})}


def _reference(values: Mapping[str, Any]) -> str:
    if "response" in values:
        return str(values["response"])
    turn = (values.get("messages") or values["conversations"])[-1]
    content = turn.get("content", turn.get("value", ""))
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def _answered(job: Job, rows: Sequence[Row]) -> set[int]:
    """Lines of the input whose answers the output holds already; an answer that was cut off is removed.

    Raises UserError when it holds something else.
    """
    if not job.output.exists():
        return set()
    if not job.output.is_file():
        # Reading a device may never end.
        problem = Problem(message="is no file", file=str(job.output), hint="choose another place for -o")
        raise UserError("the answers cannot be written; nothing was answered", [problem])
    whole, _, tail = read_text(job.output).rpartition("\n")
    records = whole.split("\n") if whole else []
    if not tail.startswith(BEGIN[: len(tail)]):
        records.append(tail)  # Of another file, so that it is refused and not removed.
    keys = {row.line: row.key for row in rows}
    problems, lines = [], set()
    for number, text in enumerate(records, start=1):
        line = _line_of(text, keys, [model.label for model in job.models])
        if line is None:
            hint = "choose another file for -o, or remove this one"
            message = "is no answer to a prompt of this input by these models"
            problems.append(Problem(message=message, file=str(job.output), line=number, hint=hint))
        else:
            lines.add(line)
    if problems:
        raise UserError("the output holds something else; nothing was answered", problems[:1])
    job.output.write_text("".join(text + "\n" for text in records), encoding="utf-8")
    return lines


def _line_of(text: str, keys: Mapping[int, str], labels: Sequence[str]) -> int | None:
    """The input's line that a record answers; None for anything else."""
    try:
        record = loads(text)
        line = int(record["line"])
        by_label = record.get("answers")
        answered = "answer" in record if len(labels) == 1 else list(by_label) == list(labels)
        return line if answered and keys.get(line) == record["id"] else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
