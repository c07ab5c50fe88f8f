"""The `chat` dataset: dialogs in any of the usual forms, streamed or local (docs/data.md, Dialogs)."""

from __future__ import annotations

import logging

from cosmos_core.data.chat import form_of
from cosmos_core.errors import Problem, UserError
from cosmos_vlm.config import ChatConfig
from cosmos_vlm.data.rows import RowsSource

__all__ = ["ChatSource"]

logger = logging.getLogger(__name__)


class ChatSource(RowsSource):
    """Chat records of the `chat` dataset. Raises UserError when the first row has none of the four forms."""

    def __init__(self, config: ChatConfig) -> None:
        super().__init__(config, target_fps=config.target_fps, max_frames=config.max_frames)
        row, place = self._row(0)
        try:
            logger.info("chat: the rows are read as %s", form_of(row))
        except ValueError as error:
            hint = "see the four forms in docs/data.md, Dialogs"
            problem = Problem(message=f"{place}: {error}", key="dataloader_train.dataset.path", hint=hint)
            raise UserError("the rows are no dialogs; nothing was started", [problem]) from None
