"""A version's files as they were when it was loaded.

A model's file is mapped into memory, and one that is cut short in place (as a plain copy onto it does) would end the
process that has it mapped. So what was not published as a whole is loaded from a copy that nobody else knows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from linnet._core.serve import copy_file
from linnet.serve import _manifest
from linnet.serve._layouts import VersionFiles

log = logging.getLogger("linnet.serve")


@contextlib.contextmanager
def snapshot(files: VersionFiles) -> Iterator[Path]:
    """The model's path in a copy of the version's files, which is gone after the block (a mapping of it is not).

    A version with a manifest is taken as it is. So is one that there is no room to copy, with a warning.
    """
    model = files.model
    assert model is not None
    if files.manifest is not None:
        yield model
        return
    with contextlib.ExitStack() as stack:
        path = model
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linnet-", dir=_place())))
            copied = folder / model.relative_to(files.folder)
            _copy(model, copied)
            beside = model.resolve().parent
            for name in _manifest.external_data(copied, beside):
                _copy(beside / name, copied.parent / name)
            for name in sorted(name for name, *_ in files.stamp):
                if not (folder / name).exists():
                    _copy(files.folder / name, folder / name)
            path = copied
        except OSError as error:
            log.warning("%s: is used where it lies, so do not overwrite it in place: %s", model, error)
        yield path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(str(source), str(target))


def _place() -> str | None:
    """TMPDIR, or a folder on a disk: /tmp is often memory."""
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK | os.X_OK):
        return "/var/tmp"
    return None
