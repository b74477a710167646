"""Which files a run writes, and that no other run writes them too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from lima2_core.errors import ParamError
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.system.outputs import RunView
from lima2_core.system.paths import PROCESSING


def refuse_shared_files(run: RunView, others: Iterable[RunView]) -> None:
    """See that ``run`` gets no files of the names of runs that are not at their end.

    No policy for files that exist can mean these: the other run would go on, and each would take
    the frames of the other for its own.

    Raises:
        ParamError: it would.
    """
    taken = {name: other for other in others for name, _ in _names(other)}
    for name, files in _names(run):
        other = taken.get(name)
        if other is not None:
            raise ParamError(
                f"run {other.acq_id} still writes files of the same name, {files.prefix} in "
                f"{files.folder}; wait for its end, or choose another filename_prefix or base_path",
                path=f"{PROCESSING}.{files.block}.filename_prefix",
            )


def _names(run: RunView) -> Iterator[tuple[tuple[str, str], SavedFiles]]:
    for saved in run.saved.values():
        for files in saved.files:
            yield (os.path.realpath(files.folder), files.prefix), files
