"""Dialogs in the usual forms of data, as `Chat` records."""

from cosmos_core.data.chat.convert import to_chat
from cosmos_core.data.chat.dimensions import dimensions_of_row, dimensions_of_video
from cosmos_core.data.chat.forms import FIELDS, form_of, parse_dialog
from cosmos_core.data.chat.media import MediaReader, frame_numbers, read_video
from cosmos_core.data.chat.pictures import read_image

__all__ = [
    "FIELDS",
    "MediaReader",
    "dimensions_of_row",
    "dimensions_of_video",
    "form_of",
    "frame_numbers",
    "parse_dialog",
    "read_image",
    "read_video",
    "to_chat",
]
