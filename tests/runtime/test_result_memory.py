"""Memory of large results that are gone serves the session's next ones: its pages need not be found anew."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet

MIB = 1 << 20
FLOATS = MIB  # of a large result: 4 MiB


def negation_model() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def negation() -> linnet.InferenceSession:
    return linnet.InferenceSession(negation_model())


def run(session: linnet.InferenceSession, value: float, count: int = FLOATS) -> np.ndarray:
    y: np.ndarray = session.run(None, {"x": np.full(count, value, np.float32)})[0]
    return y


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
@pytest.mark.skipif(
    "libclang_rt.asan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer watches freed memory"
)
def test_pages_are_found_once() -> None:
    session = negation()
    x = np.ones(FLOATS, np.float32)

    def faults() -> int:
        return int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[7])

    for _ in range(3):
        session.run(None, {"x": x})
    before = faults()
    for _ in range(50):
        session.run(None, {"x": x})
    assert faults() - before < 50, "with huge pages it was two faults a run, without them a thousand"


def test_results_that_live_are_left_alone() -> None:
    session = negation()
    held = [run(session, i, FLOATS + 1000 * (i % 3)) for i in range(24)]
    del held[3:20]
    held += [run(session, 100 + i) for i in range(8)]
    assert (
        [float(y[0]) for y in held]
        == [float(y[-1]) for y in held]
        == [0, -1, -2, -20, -21, -22, -23, *range(-100, -108, -1)]
    )
    assert all((y == y[0]).all() for y in held)


def test_results_outlive_their_session() -> None:
    session = negation()
    run(session, 1)
    y = run(session, 2)
    del session
    gc.collect()
    assert (y == -2).all()
    del y
    other = negation()
    assert (run(other, 3) == -3).all()


def test_threads_share_it() -> None:
    session = negation()
    wrong: list[float] = []

    def work(value: float) -> None:
        for _ in range(20):
            y = run(session, value)
            if not (y == -value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i + 1),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


MEASURED = """
import sys, numpy as np, linnet
def resident(): return int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) / 1024
session = linnet.InferenceSession(sys.argv[1])
x = np.ones(1 << 20, np.float32)
def run(): return session.run(None, {"x": x})[0]
run()
found = [resident()]
results = [run() for _ in range(60)]  # 240 MiB
found.append(resident())
del results
found.append(resident())
y = session.run(None, {"x": np.ones(40 << 20, np.float32)})  # 160 MiB
del y
found.append(resident())
del session
found.append(resident())
print(*found)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.skipif(
    "libclang_rt.asan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer keeps freed memory"
)
def test_no_more_than_64_mebibytes_are_kept(tmp_path: Path) -> None:
    model = tmp_path / "negation.onnx"
    model.write_bytes(negation_model())
    out = subprocess.run([sys.executable, "-c", MEASURED, str(model)], capture_output=True, text=True, check=True)
    before, full, after, later, end = map(float, out.stdout.split())
    assert full - before > 200
    assert after - before < 90 and later - before < 90
    assert end - before < 25
