"""The rules of the house that a script can check: file lengths, first lines, includes, links, the list of operators."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CPP = sorted(p for p in (ROOT / "cpp").rglob("*") if p.suffix in (".h", ".hpp", ".c", ".cpp"))
PYTHON = sorted(p for folder in ("python", "tests", "benchmarks", "docs") for p in (ROOT / folder).rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINES = 500

# What each folder of cpp/ may include besides itself: what comes before it on the way from file to result.
BELOW = {
    "base": "",
    "onnx": "base",
    "graph": "base onnx",
    "kernels": "",
    "ops": "base graph kernels",
    "passes": "base graph ops",
    "plan": "base graph",
    "runtime": "base onnx graph kernels passes plan",
    "compress": "base onnx graph runtime",
    "serve": "base onnx graph runtime",
    "bindings": "base onnx graph kernels runtime compress serve linnet",
    "tools": "base onnx graph kernels runtime compress serve linnet",
    "include": "linnet",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_are_short() -> None:
    measured = [p for p in [*CPP, *PYTHON] if p.is_relative_to(ROOT / "cpp") or p.is_relative_to(ROOT / "python")]
    lengths = {name(p): len(p.read_text(encoding="utf-8").splitlines()) for p in measured}
    assert len(lengths) > 200
    assert {p: n for p, n in lengths.items() if n > LINES} == {}


def test_files_begin_with_what_they_are() -> None:
    starts = {".py": ('"""', 'r"""', "#!")}
    assert [
        name(p)
        for p in [*CPP, *PYTHON]
        if not p.read_text(encoding="utf-8").startswith(starts.get(p.suffix, ("// ", "/* ")))
    ] == []


def test_nothing_is_left_for_later() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert [name(p) for p in [*CPP, *PYTHON, *PAGES] if mark.search(p.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("folder", sorted(p.name for p in (ROOT / "cpp").iterdir() if p.is_dir()))
def test_includes_point_one_way(folder: str) -> None:
    allowed = {folder, *BELOW[folder].split()}
    found = []
    for path in (p for p in CPP if p.is_relative_to(ROOT / "cpp" / folder)):
        for target in re.findall(r'^\s*#\s*include "([^"]+)"', path.read_text(encoding="utf-8"), re.M):
            if target.split("/")[0] not in allowed:
                found.append(f"{name(path)} includes {target}")
            elif not (ROOT / "cpp" / target).exists() and not (ROOT / "cpp" / "include" / target).exists():
                found.append(f"{name(path)} includes {target}, which does not exist")
    assert found == []


def test_kernel_headers_include_no_library() -> None:
    """An inline function of the standard library would be shared by objects of all instruction sets."""
    plain = {"cstddef", "cstdint", "cstring", "immintrin.h", "arm_neon.h"}
    for path in (ROOT / "cpp" / "kernels").glob("*.h"):
        if not path.name.startswith("selftest"):
            assert set(re.findall(r"#\s*include <([^>]+)>", path.read_text(encoding="utf-8"))) <= plain, name(path)


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in headings(target)):
            yield link
    for path in re.findall(r"`((?:cpp|python|tests|docs|benchmarks|cmake|protos)/[\w./-]+)`", text):
        if not (ROOT / path).exists():
            yield path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_list_of_operators_is_current() -> None:
    script = ROOT / "docs" / "make_operators.py"
    spec = importlib.util.spec_from_file_location("make_operators", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    assert page == module.page(), "run: python docs/make_operators.py"
