"""Where the pretrained models and data are: ``$LINNET_TEST_ASSETS``, by default ``../shared/assets`` beside the
repository."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(os.environ.get("LINNET_TEST_ASSETS", ROOT.parent / "shared" / "assets"))
