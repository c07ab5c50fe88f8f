"""Single files of a dataset repository on the Hub, fetched when they are asked for."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from attrs import frozen

from cosmos_core.hub.retries import with_retries

__all__ = ["RepositoryFiles"]


@frozen
class RepositoryFiles:
    """The files of a dataset repository at a revision. Fetched files stay in the Hub cache."""

    repo: str
    revision: str

    def fetch(self, name: str) -> Path:
        """The file with this name in the repository; a download that broke off continues.

        Raises ValueError for names outside of the repository and for files that it lacks, UserError when the network
        fails every time.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError
        from huggingface_hub.utils import disable_progress_bars

        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"is not the name of a file inside the repository {self.repo}")

        disable_progress_bars()  # One a file would flood the log.

        def download() -> Path | None:
            try:
                return Path(hf_hub_download(self.repo, str(path), repo_type="dataset", revision=self.revision))
            except RemoteEntryNotFoundError:
                return None

        file = with_retries(download, f"{self.repo}@{self.revision}/{path}")
        if file is None:
            raise ValueError(f"is not in the repository {self.repo}")
        return file
