"""Shared by all tests.

In a developer's build (`cmake -G Ninja -B build -DLINNET_PYTHON=ON . && ninja -C build`) the extension module lies in
python/linnet: run `PYTHONPATH=python pytest tests`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from assets import ASSETS, Asset


@pytest.fixture
def asset() -> Asset:
    """``asset(relative path)``: that file of the assets; skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = ASSETS / relative
        if not path.exists():
            pytest.skip(f"{relative} is not in {ASSETS} (set LINNET_TEST_ASSETS)")
        return path

    return find
