"""Options of the dataset; checks and help come with the fields."""

from typing import Any

from attrs import frozen

from cosmos_core.config import FileDatasetConfig, option, required


@frozen(kw_only=True)
class LeRobot(FileDatasetConfig):
    """Episodes of a LeRobot dataset, version 3."""

    path: str = required("Folder that holds meta/ and videos/.")
    camera: str | None = option(None, "Camera, such as observation.images.front; the first one when absent.")
    width: int = option(320, "Width of the clips, a multiple of 16.", unit="pixels", low=16)
    height: int = option(192, "Height of the clips, a multiple of 16.", unit="pixels", low=16)

    @width.validator
    @height.validator
    def _is_a_multiple(self, attribute: Any, value: int) -> None:
        if value % 16:
            raise ValueError(f"must be a multiple of 16, got {value}")

    @property
    def place(self) -> str:
        """The configured path."""
        return self.path
