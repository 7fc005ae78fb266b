"""A version is tried and warmed up before it serves, and batching is on only where rows keep to themselves."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core
from linnet._core import serve as engine
from linnet.serve import _layouts, _loading, _priority
from linnet.serve._config import ModelConfig, PortConfig, Warmup, WarmupInput
from linnet.serve._loading import Loaded, LoadError
from repository_models import adds, save, until, version

BATCH: list[int | str] = ["batch", 2]


def load(path: Path, **settings: Any) -> Loaded:
    config = ModelConfig("m", path, source="here", **settings)
    return _loading.load(config, _layouts.versions(config)[1], engine.Served, _core.Flag())


def node(path: Path, op: str, *more: str, constants: Any = (), shape: Any = BATCH, **attributes: Any) -> Path:
    return save([helper.make_node(op, ["x", *more], ["y"], **attributes)], list(constants), path, shape, shape)


def test_rows_that_keep_to_themselves(tmp_path: Path) -> None:
    loaded = load(adds(1, tmp_path / "m.onnx"))
    assert loaded.max_batch == 16
    assert loaded.batching == "on: rows of a batch do not influence each other"


def test_rows_that_influence_each_other(tmp_path: Path) -> None:
    softmax = load(node(tmp_path / "a.onnx", "Softmax", axis=0))
    assert softmax.max_batch == 1
    assert "a row of output 'y' is another one when it is run together with others" in softmax.batching
    rows = numpy_helper.from_array(np.array([0, -1]), "rows")
    folded = load(
        save([helper.make_node("Reshape", ["x", "rows"], ["y"])], [rows], tmp_path / "b.onnx", ["n", 2, 2], ["n", "k"])
    )
    assert folded.max_batch == 16, "rows that are only reshaped"
    flat = numpy_helper.from_array(np.array([-1, 1]), "flat")
    turned = load(
        save([helper.make_node("Reshape", ["x", "flat"], ["y"])], [flat], tmp_path / "c.onnx", BATCH, ["n", 1])
    )
    assert (turned.max_batch, turned.batching) == (
        1,
        "off: the first dimension of output 'y' is not that of the inputs",
    )


def test_quantization_by_the_whole_batch(tmp_path: Path) -> None:
    """DynamicQuantizeLinear takes one scale from all rows."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    assert load(save(nodes, [], tmp_path / "m.onnx", ["batch", 64], ["batch", 64])).max_batch == 1


def test_batching_as_configured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = node(tmp_path / "m.onnx", "Softmax", axis=0)
    loaded = load(path, max_batch_size=4, batching=True)
    assert loaded.max_batch == 4
    assert "m: batching is on as configured, but a row of output 'y'" in caplog.text
    assert load(adds(1, tmp_path / "n.onnx"), max_batch_size=0).max_batch == 1
    assert load(adds(1, tmp_path / "n.onnx"), max_batch_size=5).max_batch == 5
    assert load(adds(1, tmp_path / "n.onnx"), batching=False).max_batch == 1
    fixed = load(adds(1, tmp_path / "f.onnx", batch=1))
    assert (fixed.max_batch, fixed.batching) == (1, "off: not every input and output has a free first dimension")


def test_integers_and_texts(tmp_path: Path) -> None:
    ints = save([helper.make_node("Neg", ["x"], ["y"])], [], tmp_path / "i.onnx", BATCH, BATCH, TensorProto.INT64)
    assert load(ints).max_batch == 16
    texts = save(
        [helper.make_node("Identity", ["x"], ["y"])], [], tmp_path / "t.onnx", BATCH, BATCH, TensorProto.STRING
    )
    loaded = load(texts)
    assert loaded.inputs[0]["dtype"] == "str"
    assert loaded.max_batch == 16


def test_free_sizes_are_tried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A convolution of 5x5 without padding does not take an image of 1x1."""
    weights = numpy_helper.from_array(np.ones((1, 1, 5, 5), np.float32), "w")
    path = node(tmp_path / "m.onnx", "Conv", "w", constants=[weights], shape=["batch", 1, "height", "width"])
    assert load(path).max_batch == 16
    assert caplog.text == ""
    weights = numpy_helper.from_array(np.ones((1, 1, 300, 300), np.float32), "w")
    path = node(tmp_path / "l.onnx", "Conv", "w", constants=[weights], shape=["batch", 1, "height", "width"])
    loaded = load(path)
    assert loaded.batching == "off: the model could not be tried"
    assert "not tried before it is served, for want of sizes for x (give warm-up samples)" in caplog.text
    config = [PortConfig("x", "float32", (1, 300, 300))]
    assert load(path, inputs=tuple(config), max_batch_size=2, batching=True).batching.startswith("on")


def test_samples(tmp_path: Path) -> None:
    """The samples are what is run: one that the model does not take fails the load."""
    gather = helper.make_node("Gather", ["table", "x"], ["y"])
    table = numpy_helper.from_array(np.arange(8, dtype=np.float32), "table")
    graph = [gather, [table], tmp_path / "m.onnx", ["batch", 1], ["batch", 1]]
    nodes, constants, path, x, _ = graph
    model = helper.make_graph(
        [nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x)],
        constants,
    )
    data = helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    path.write_bytes(data)
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.array([[1], [7]]))
    assert load(path, warmup=(Warmup(samples=samples),)).max_batch == 16
    np.savez(samples, x=np.array([[1], [8]]))
    with pytest.raises(LoadError, match="index 8 is outside"):
        load(path, warmup=(Warmup(samples=samples),))
    with pytest.raises(LoadError, match=r"absent\.npz"):
        load(path, warmup=(Warmup(samples=tmp_path / "absent.npz"),))

    raw = tmp_path / "x.raw"
    for value, good in ((3, True), (9, False)):
        np.array([value]).tofile(raw)
        warmup = Warmup(inputs={"x": WarmupInput("int64", (1,), file=raw)}, batch_size=2, count=2)
        if good:
            assert load(path, warmup=(warmup,), max_batch_size=4).max_batch == 4
        else:
            with pytest.raises(LoadError, match="index 9 is outside"):
                load(path, warmup=(warmup,), max_batch_size=4)
    np.arange(3).tofile(raw)
    with pytest.raises(LoadError, match="has 3 elements"):
        load(path, warmup=(warmup,), max_batch_size=4)


def test_outputs_that_are_no_tensors(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match="output 'y' is a sequence; only tensors can be sent"):
        load(path)


def test_stopping(tmp_path: Path) -> None:
    """A model that never ends does not keep the loader for ever."""
    forever = numpy_helper.from_array(np.array(2**40), "forever")
    true = numpy_helper.from_array(np.array(True), "true")
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, BATCH),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, BATCH),
        ],
    )
    loop = helper.make_node("Loop", ["forever", "true", "x"], ["y"], body=body)
    path = save([loop], [forever, true], tmp_path / "m.onnx", BATCH, BATCH)
    config = ModelConfig("m", path)
    stop = _core.Flag()
    threading.Timer(0.2, stop.set, [True]).start()
    with pytest.raises(LoadError):
        _loading.load(config, _layouts.versions(config)[1], engine.Served, stop)


@pytest.mark.parametrize("external", ["", "net.weights", "other.bin"])
def test_overwriting_a_file_that_is_served(tmp_path: Path, external: str) -> None:
    """A plain copy onto a file cuts it short first: what serves it goes on with what it loaded."""
    code = f"""
import sys
sys.path[:] = {sys.path!r}
import numpy as np
from pathlib import Path
from onnx import helper, numpy_helper, load, save_model
from repository_models import open_repository, save
path = Path({str(tmp_path / "net.onnx")!r})
table = numpy_helper.from_array(np.arange(4_000_000, dtype=np.float32).reshape(-1, 2), "table")
from onnx import TensorProto
cast = helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)
save([cast, helper.make_node("Gather", ["table", "i"], ["y"])], [table], path, ["batch"], ["batch", 2])
if {external!r}:
    model = load(path)
    save_model(model, path, save_as_external_data=True, location={external!r})
repository = open_repository(path)
(session,) = sessions
for file in path.parent.iterdir():
    file.write_bytes(b"cut")
for rows in (1, 2, 30, 40):
    x = np.linspace(0, 1_999_000, rows, dtype=np.float32)
    (y,) = session.run({{"x": x}})
    assert np.array_equal(y[:, 0], x.astype(np.int64) * 2.0)
repository.poll()
assert list(repository.view("net").active) == [1] and repository.view("net").problem
assert str(path) in repository.view("net").problem
print("good")
repository.stop()
"""
    keep = """
from linnet.serve import _loading
sessions = []
make = _loading._open
_loading._open = lambda *a: sessions.append(make(*a)) or sessions[-1]
"""
    code = code.replace("repository = open", keep + "repository = open", 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "good\n", done.stderr


needs_idle = pytest.mark.skipif(not _priority.can_return(), reason="may not leave idle priority again")


@needs_idle
def test_idle_priority_is_for_the_block_only() -> None:
    before = os.sched_getscheduler(0)
    with _priority.Quiet() as quiet:
        assert os.sched_getscheduler(0) == before
        with quiet.idle():
            assert os.sched_getscheduler(0) == os.SCHED_IDLE
        assert os.sched_getscheduler(0) == before


@needs_idle
def test_a_load_that_is_put_off_goes_on_at_ordinary_priority() -> None:
    """A thread that sleeps gets as little of a core as one that nobody lets run."""
    with _priority.Quiet() as quiet:
        with quiet.idle():
            assert os.sched_getscheduler(0) == os.SCHED_IDLE
            until(lambda: os.sched_getscheduler(0) == os.SCHED_OTHER)
        with quiet.idle():
            assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_where_idle_priority_cannot_be_left_again() -> None:
    """As for a user without rights: the thread does not take it."""
    code = """
import os, resource, threading
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert not p.can_return()
with p.Quiet() as quiet, quiet.idle():
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
print("good")
"""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    before = ["import sys", f"sys.path[:] = {sys.path!r}", "import linnet.serve._priority as p"]
    done = subprocess.run([sys.executable, "-c", "\n".join(before) + code], capture_output=True, text=True)
    assert done.stdout == "good\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one thread's priority cannot be set")
def test_only_the_loader_gives_way(tmp_path: Path) -> None:
    """Its thread alone is nice, and the pool's threads, which inherit their maker's priority, are not made by it."""
    code = f"""
import os, sys
sys.path[:] = {sys.path!r}
import numpy as np
from pathlib import Path
from repository_models import open_repository, save
from onnx import helper, numpy_helper
from linnet import _core
path = Path({str(tmp_path / "m.onnx")!r})
w = numpy_helper.from_array(np.ones((1000, 1000), np.float32), "w")
save([helper.make_node("MatMul", ["x", "w"], ["y"])], [w], path, ["batch", 1000], ["batch", 1000])
repository = open_repository(path, **{{}})
session = _core.Session(path, _core.SessionOptions())
for _ in range(20):
    session.run({{"x": np.ones((64, 1000), np.float32)}})
threads = [int(t) for t in os.listdir("/proc/self/task")]
loader = repository._thread.native_id
print(len(threads), max(os.getpriority(os.PRIO_PROCESS, t) for t in threads if t != loader))
print(os.getpriority(os.PRIO_PROCESS, loader), {{os.sched_getscheduler(t) for t in threads}} == {{os.SCHED_OTHER}})
repository.stop()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    count, others, loader, ordinary = done.stdout.split()
    assert (int(others), int(loader), ordinary) == (os.nice(0), _priority.NICENESS, "True"), done.stderr
    assert int(count) > 2 or _core.available_cpus() == 1, "the pool's threads are there"


def _switches(gives_way: bool, session: _core.Session, feeds: dict[str, Any]) -> int:
    """How often a thread that shares its CPU with another is taken off it in 20 ms of its own time."""
    found = []

    def work() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        other.start()
        engine.set_gives_way(gives_way)
        session.run(feeds)  # its plan is made
        before, until = resource.getrusage(resource.RUSAGE_THREAD), time.thread_time() + 0.02
        while time.thread_time() < until:
            session.run(feeds, None, None, 0, None, 1)
        after = resource.getrusage(resource.RUSAGE_THREAD)
        found.append(after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw)

    def compete() -> None:  # inherits the CPU, and takes no lock
        while not found:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 30_000)

    other = threading.Thread(target=compete)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    other.join()
    return int(found[0])


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted on Linux")
def test_work_beside_others_yields_between_its_steps(tmp_path: Path) -> None:
    steps = [helper.make_node("Sin", [f"x{i}" if i else "x"], [f"x{i + 1}" if i < 99 else "y"]) for i in range(100)]
    session = _core.Session(save(steps, [], tmp_path / "m.onnx", [16384], [16384]), _core.SessionOptions())
    feeds = {"x": np.ones(16384, np.float32)}
    assert _switches(True, session, feeds) > 3 * _switches(False, session, feeds) + 20


def test_memory_is_given_back(tmp_path: Path) -> None:
    """A hundred loads of 4 MB, each dropped: what is resident does not grow with them."""
    from repository_models import open_repository

    for number in (1, 2):
        version(tmp_path / "m", number, weights=4 << 20)
    repository = open_repository(tmp_path, control="explicit", load=("m",))
    sizes = []
    for i in range(60):
        repository.unload("m")
        repository.load("m")
        if i in (9, 59):
            while repository._retired:
                pass
            sizes.append(_resident())
    repository.stop()
    assert sizes[1] - sizes[0] < 8 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
