"""Object files of the kernel tables: no weak symbol outside the instruction set's own namespace.

A weak symbol is merged with its namesakes when objects are linked. If it came from the standard library or a shared
header, code compiled for one instruction set could run on a CPU that lacks it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("LINNET_BUILD") or Path(__file__).parents[2] / "build")
OBJECTS = sorted(BUILD.rglob("table_*.cpp.o"))


def foreign(listing: str, isa: str) -> list[str]:
    """Lines of ``nm -C`` that define a weak or unique symbol not in ``linnet::kernels::<isa>``."""
    lines = (line.split(maxsplit=2) for line in listing.splitlines())
    return [
        " ".join(words)
        for words in lines
        if len(words) == 3 and words[1] in ("W", "V", "u") and f"linnet::kernels::{isa}::" not in words[2]
    ]


@pytest.mark.skipif(not OBJECTS, reason=f"no object files of kernel tables in {BUILD}; set LINNET_BUILD")
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda p: p.name)
def test_weak_symbols_stay_in_their_namespace(path: Path) -> None:
    isa = path.name.removeprefix("table_").removesuffix(".cpp.o")
    done = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True)
    assert f"linnet::kernels::{isa}::table" in done.stdout
    assert foreign(done.stdout, isa) == []


def test_a_foreign_weak_symbol_is_found() -> None:
    listing = """
                 U memcpy
0000000000000000 W float linnet::kernels::avx2::tile<6>(float*)
0000000000000000 W std::vector<float>::~vector()
0000000000000000 V linnet::kernels::generic::steps
0000000000000010 t float linnet::kernels::avx2::exp(float)
"""
    assert foreign(listing, "avx2") == [
        "0000000000000000 W std::vector<float>::~vector()",
        "0000000000000000 V linnet::kernels::generic::steps",
    ]
