"""A commit's files in a folder that lasts as long as a call: fetched by the repository host's API, checked, unpacked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_core.domain.ids import CommitId
from mlops_core.ports import ProjectRecord

FetchCommit = Callable[[ProjectRecord, CommitId, Path], None]
"""Puts the files of a commit into an empty folder. Raises: BadInputError, TooLargeError, NotFoundError, TemporaryError."""


class CommitFiles:
    """Fetches commits for those who submit them."""

    def __init__(self, fetch: FetchCommit) -> None:
        self._fetch = fetch

    @contextmanager
    def project_root(self, project: ProjectRecord, commit: CommitId) -> Iterator[Path]:
        """Give the folder of `mlops.yaml` in a commit; it is removed when the block ends."""
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            self._fetch(project, commit, Path(folder))
            yield (Path(folder) / project.manifest).parent
