"""A conversation on the terminal: lines are messages, lines that begin with a slash are commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from os.path import expanduser
from pathlib import Path

import click

from cosmos_core.config.problems import render
from cosmos_core.data import Image, Video
from cosmos_core.errors import UserError
from cosmos_vlm.chat.conversation import Clips, Conversation, open_media

__all__ = ["answer_once", "talk"]

HELP = """\
/image FILE   show an image with the next message
/video FILE   show a video with the next message
/reset        forget the conversation
/help         this text
/quit         end; so does Ctrl-D
Ctrl-C ends an answer early."""
PROMPT = "you> "


def answer_once(conversations: Sequence[Conversation], text: str, media: list[Image | Video]) -> None:
    """Print the answer of each, under its name where there are several."""
    for conversation in conversations:
        if len(conversations) > 1:
            click.echo(f"[{conversation.model.label}]")
        conversation.ask(text, media, lambda piece: click.echo(piece, nl=False))
        click.echo()


def talk(conversations: Sequence[Conversation], media: list[Image | Video], clips: Clips) -> None:
    """Answer lines until the end of the input or `/quit`. media: shown with the first message."""
    with suppress(ImportError):
        import readline  # noqa: F401  # Gives `input` editing and a history.
    click.echo(HELP, err=True)
    while (line := _line()) is not None and line != "/quit":
        try:
            if line.startswith("/"):
                media = _command(line, conversations, media, clips)
            elif line:
                answer_once(conversations, line, media)
                media = []
        except UserError as error:
            click.echo(render(error), err=True)


def _line() -> str | None:
    """The next line; None at the end. Ctrl-C clears it."""
    try:
        return input(PROMPT if sys.stdin.isatty() else "").strip()
    except KeyboardInterrupt:
        click.echo()
        return ""
    except EOFError:
        click.echo()
        return None


def _command(
    line: str, conversations: Sequence[Conversation], media: list[Image | Video], clips: Clips
) -> list[Image | Video]:
    """The media for the next message, after a command. Raises UserError."""
    word, _, rest = line.partition(" ")
    if word in ("/image", "/video"):
        opened = open_media(Path(expanduser(rest.strip())), word.removeprefix("/"), clips)
        click.echo(f"{rest.strip()} goes with the next message", err=True)
        return [*media, opened]
    if word == "/reset":
        for conversation in conversations:
            conversation.reset()
        click.echo("a new conversation starts", err=True)
        return []
    click.echo(HELP if word == "/help" else f"{word} is no command\n{HELP}", err=True)
    return media
