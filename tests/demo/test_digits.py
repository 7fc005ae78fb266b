"""The demo reads its digits, and its report holds everything it shows."""

from __future__ import annotations

import struct
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import linnet
from linnet import _measure
from linnet.demo import _data, _job, _report, _served, _shrink
from linnet.demo.__main__ import main


def test_held_out_digits_are_read() -> None:
    digits = _data.held_out()
    assert digits.images.shape == (450, 8, 8)
    run = _measure.runtime("linnet")(_data.MODEL, 1)
    (chances,) = run({"image": _data.model_input(digits.images)})
    assert chances.shape == (450, 10)
    np.testing.assert_allclose(np.asarray(chances, np.float64).sum(1), 1.0, atol=1e-5)
    assert float(np.mean(chances.argmax(1) == digits.labels)) >= 0.98


def test_held_out_digits_are_those_left_out_of_training() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    from linnet.demo import train

    training, held = train.split()
    stored = _data.held_out()
    assert np.array_equal(held.images, stored.images)
    assert np.array_equal(held.labels, stored.labels)
    assert len(training.labels) + len(held.labels) == 1797


def test_model_input_keeps_flat_areas_and_corners() -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[0] = 16
    images[1, 0, 7] = 8
    pictures = _data.model_input(images)
    assert pictures.dtype == np.float32
    assert pictures.shape == (2, 1, 28, 28)
    np.testing.assert_allclose(pictures[0], 1.0)
    assert pictures[1, 0, 0, 27] == pytest.approx(0.5)
    assert pictures[1, 0, 27, 0] == 0.0


def test_png_decodes_to_the_same_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    data = _report.png(pixels)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(data[at + 4 : at + 8 + length])
        chunks[data[at + 4 : at + 8]] = body
        at += 12 + length
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (7, 5)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(5, 8)
    assert np.array_equal(rows[:, 1:], pixels)


class Tags(HTMLParser):
    """Collects what a page opens, and fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.outside += [v for k, v in attrs if k in ("src", "href") and v]
        self.pictures += (values.get("class") or "").split(" ")[0] == "d"
        if tag not in ("meta", "br", "path", "line", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "br", "path", "line", "rect"):
            assert self.open.pop() == tag


def test_report_is_one_well_formed_page() -> None:
    digits = _data.held_out()
    chances = np.eye(10, dtype=np.float32)[digits.labels]
    chances[3] = np.roll(chances[3], 1)  # one mistake
    times = np.random.default_rng(1).lognormal(-11, 0.1, 400)
    results = [_job.Result(name, "1.0", chances, times, 10_000_000) for name in ("linnet", "onnxruntime")]
    forms = [_shrink.Shrunk("float", "as it was", 600_000, 1e-4, 449), _shrink.Shrunk("less", "<", 60_000, 5e-5, 448)]
    steps = [_job.Step("a <b>", "Conv", 8.0), _job.Step("c", "Gemm", 2.0)]
    text = _report.page(digits, results, steps, "a machine", forms)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.outside == []  # nothing is fetched from elsewhere
    assert tags.pictures == 450 + 1
    assert "a &lt;b&gt;" in text
    assert "449 of 450" in text
    assert "60.0 kB" in text
    assert "99.6 %" in text


def test_demo_runs_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "report.html"
    assert main(["--out", str(out), "--seconds", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert str(out) in printed
    assert "98." in printed
    assert "linnet bench MODEL.onnx" in printed.splitlines()[-3]
    text = out.read_text(encoding="utf-8")
    assert "Where the time goes" in text
    assert "Conv" in text


def test_compressed_forms_hold_the_accuracy() -> None:
    """The promises: integers lose 0.3 points at most, 80 % zeros in blocks and 16 values 0.5."""
    pytest.importorskip("onnx")
    digits = _data.held_out()
    whole, int8, codes, pruned, everything = _shrink.shrink(digits, 0.02, lambda text: None)
    assert whole.right >= 0.98 * 450
    for form, points in ((int8, 0.3), (codes, 0.5), (pruned, 0.5), (everything, 0.5)):
        assert 100 * (whole.right - form.right) / 450 <= points, form
    assert whole.size / int8.size > 3.5
    assert min(whole.size / form.size for form in (codes, pruned)) > 7
    assert whole.size / everything.size > 6.5


def test_pruned_digits_have_their_blocks_of_zeros(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(_data.PRUNED)
    names = [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)  # weights as floats, from their codes
    onnx.save(model, tmp_path / "open.onnx")
    session = linnet.InferenceSession(str(tmp_path / "open.onnx"))
    tensors = session.run(names, {"image": np.zeros((1, 1, 28, 28), np.float32)})
    weights = {w.shape: w for w in map(np.asarray, tensors)}
    dense = weights[128, 1152]
    assert sum(int((w == 0).sum()) for w in weights.values()) >= 0.795 * sum(w.size for w in weights.values())
    assert (dense == 0).reshape(32, 4, 1152).all(1).mean() >= 0.79  # whole blocks, not as many single weights
    assert all(len(np.unique(w)) <= 16 for w in weights.values() if w.size >= 1024)


def test_demo_without_onnx_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linnet.demo.__main__.can_shrink", lambda: False)
    assert main(["--out", str(tmp_path / "report.html"), "--seconds", "0.02"]) == 0
    assert "pip install onnx" in capsys.readouterr().out


def test_training_script_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "linnet.demo.train", raising=False)
    with pytest.raises(SystemExit, match="pip install torch"):
        __import__("linnet.demo.train")


def test_the_served_reader_answers_with_the_same_bits() -> None:
    if not _served.can_serve():
        pytest.skip("needs pip install linnet[serve]")
    digits = _data.held_out()
    run = _measure.runtime("linnet")(_data.MODEL, 1)
    chances = np.concatenate([run({"image": picture[None]})[0] for picture in _data.model_input(digits.images)])
    called = _served.serve_digits(digits, chances, 0.2, lambda text: None)
    assert called
    for client in called:
        assert client.equal, client.client
        assert client.right / len(digits.labels) >= 0.98
        assert len(client.times) > 0
