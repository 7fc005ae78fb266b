"""The runtimes that ``benchmarks.models`` compares: for each a function that opens a model and returns a call.

To add a peer, write one function and one row in ``PEERS``; import the runtime inside the function.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from linnet import _measure

Open = Callable[[Path, int], _measure.Call]

PEERS: dict[str, Open] = {
    "linnet": functools.partial(_measure.open_session, "linnet"),
    # With its own defaults but for the threads. Its workers spin after a run, which the rest between bursts waits out.
    "onnxruntime": functools.partial(_measure.open_session, "onnxruntime"),
}


def opener(peer: str) -> str:
    """How ``_measure.memory`` opens a session of ``peer`` in a child process."""
    return peer if isinstance(PEERS[peer], functools.partial) else f"{__name__}:{peer}"


def version(peer: str) -> str:
    """The installed version of ``peer``, or "" when it is not installed."""
    try:
        if peer == "linnet":  # a developer's build is not installed
            return str(importlib.import_module(peer).__version__)
        return importlib.metadata.version(peer)
    except importlib.metadata.PackageNotFoundError:
        return ""
