"""Writes operators.md: every operator of the registry, from the built module.

After a build: ``PYTHONPATH=python python docs/make_operators.py``.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from linnet import _core

DOMAINS = {
    "": ("ai.onnx", "The ONNX standard. Opsets up to 28 are known; a model of a newer one is refused."),
    "ai.onnx.ml": ("ai.onnx.ml", "The ONNX standard for classical machine learning."),
    "ai.onnx.preview": ("ai.onnx.preview", "The ONNX standard's drafts."),
    "ai.onnx.preview.training": (
        "ai.onnx.preview.training",
        "Steps of optimizers, and Gradient, which is replaced by what computes it ([conformance.md](conformance.md)).",
    ),
    "com.microsoft": ("com.microsoft", "Operators that onnxruntime's tools write into models."),
    "linnet": ("linnet", "Internal: made by lowering, never read from a file or written to one."),
}
INTRO = """\
# Operators

Made by `docs/make_operators.py`; do not edit. A version is the first opset of an implementation; it stays valid up
to the next one in the list. An operator with the single version 1 never changed in a way that matters here. Element
types, attributes and limits are in the comment that begins each operator's file in `cpp/ops/`.
"""


def page() -> str:
    """The text of operators.md."""
    table: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for domain, name, since in _core.ops():
        table[domain][name].append(since)
    parts = [INTRO]
    for domain in sorted(table, key=lambda d: (list(DOMAINS).index(d) if d in DOMAINS else len(DOMAINS), d)):
        title, text = DOMAINS.get(domain, (domain, ""))
        rows = [
            f"| {name} | {', '.join(map(str, sorted(versions)))} |" for name, versions in sorted(table[domain].items())
        ]
        count = f"{len(rows)} operator{'s' * (len(rows) > 1)}"
        head = f"## {title}\n\n{text}\n\n{count}.\n\n| operator | versions |\n|---|---|"
        parts.append("\n".join([head, *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("operators.md").write_text(page(), encoding="utf-8")
