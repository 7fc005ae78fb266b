"""One session, many threads of Python; any number of threads of Linnet; fork; stopping a run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from onnx import helper

import linnet
import small_models
from linnet import _core


def cnn(threads: int) -> linnet.InferenceSession:
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    return linnet.InferenceSession(small_models.small_cnn(), options)


def picture(batch: int, height: int) -> np.ndarray:
    return np.random.default_rng(batch * 100 + height).standard_normal((batch, 1, height, 16), dtype=np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_threads_share_a_session(threads: int) -> None:
    session = cnn(threads)
    inputs = [picture(1 + i % 3, 8 + i % 5) for i in range(40)]
    expected = [session.run(None, {"x": x})[0] for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            results = list(pool.map(lambda x: session.run(None, {"x": x})[0], inputs))
            for result, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, wanted)


def test_more_shapes_than_are_kept() -> None:
    session = cnn(1)
    inputs = [picture(1, height) for height in range(3, 103)]
    expected = [session.run(None, {"x": x})[0] for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for result, wanted in zip(pool.map(lambda x: session.run(None, {"x": x})[0], inputs), expected, strict=True):
            np.testing.assert_array_equal(result, wanted)


def test_the_same_bits_for_any_number_of_threads() -> None:
    x = picture(2, 64)
    results = [cnn(threads).run(None, {"x": x})[0] for threads in (1, 2, 3, 4)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize(("callers", "threads"), [(1, 1), (1, 2), (1, 4), (2, 3), (4, 2), (3, 70)])
def test_each_task_is_done_once(callers: int, threads: int) -> None:
    """By whoever comes first; more threads than tasks, and more tasks than threads."""
    for tasks in (1, 2, 3, 17, 200):
        jobs = _core.testing.split_work(callers, threads, tasks, 300 if threads < 10 else 30)
        assert all(done == [1] * tasks for done, _ in jobs)
        assert all(1 <= workers <= min(threads, tasks) for _, workers in jobs)


def in_a_child(program: str) -> str:
    """What a fresh process prints that runs `program` with `s` and `x`, a session on 4 threads and its input."""
    code = f"""
import os, resource, sys, time
sys.path[:0] = {sys.path!r}
import numpy as np, linnet, small_models
def tasks(): return len(os.listdir("/proc/self/task"))
def session(threads):
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    return linnet.InferenceSession(small_models.small_cnn(), options)
def x(height): return np.ones((2, 1, height, 16), np.float32)
{program}
"""
    return subprocess.run([sys.executable, "-c", code], check=True, text=True, capture_output=True).stdout


def test_workers_are_there_when_work_is_split_only() -> None:
    out = in_a_child("""
s = session(3)
before = tasks()
s.run(None, {"x": x(3)})
small = tasks() - before
s.run(None, {"x": x(600)})
print(small, tasks() - before)
""")
    assert out.split() == ["0", "2"]


def test_workers_sleep_after_a_run() -> None:
    out = in_a_child("""
s = session(3)
for _ in range(20): s.run(None, {"x": x(600)})
before = time.process_time()
time.sleep(0.5)
print(time.process_time() - before)
""")
    assert float(out) < 0.005


def test_sessions_side_by_side() -> None:
    sessions = [cnn(1 + i % 4) for i in range(6)]
    inputs = [picture(2, height) for height in (3, 200, 64, 400, 9, 128)]
    expected = [sessions[0].run(None, {"x": x})[0] for x in inputs]

    def work(i: int) -> None:
        for j in range(30):
            got = sessions[i].run(None, {"x": inputs[(i + j) % 6]})[0]
            np.testing.assert_array_equal(got, expected[(i + j) % 6])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_failing_runs_beside_good_ones() -> None:
    session = cnn(2)
    x = picture(1, 8)
    (expected,) = session.run(None, {"x": x})

    def one(i: int) -> None:
        if i % 2:
            with pytest.raises(linnet.InvalidArgument):
                session.run(None, {"x": x[:, :, :, :5]})
        else:
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(200)))


def test_feeds_that_another_thread_changes() -> None:
    session = linnet.InferenceSession(small_models.relu(("n", "m")))
    feeds = {"x": np.ones((300, 1000), np.float32)}
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            feeds["x"] = np.ones((300, 1000), np.float32)  # the old array is let go, perhaps while it is read

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(100):
            assert session.run(None, feeds)[0].min() == 1
    finally:
        stop.set()
        other.join()


def long_run() -> tuple[linnet.InferenceSession, dict[str, np.ndarray]]:
    return linnet.InferenceSession(small_models.long_loop()), {"count": np.array(10**9, np.int64)}


def test_the_gil_is_released_and_terminate_stops_a_run() -> None:
    session, feeds = long_run()
    options = linnet.RunOptions()
    caught: list[BaseException] = []

    def work() -> None:
        try:
            session.run(None, feeds, options)
        except linnet.Cancelled as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    counted = 0
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        counted += 1
    options.terminate = True
    thread.join(20)
    assert not thread.is_alive()
    assert caught and "stopped by its caller" in str(caught[0])
    assert counted > 1000  # this thread went on meanwhile
    assert session.run(None, {"count": np.array(3, np.int64)})[0] == 3


def test_a_time_limit_stops_a_run() -> None:
    session, feeds = long_run()
    options = linnet.RunOptions()
    options.time_limit_ms = 50
    start = time.monotonic()
    with pytest.raises(linnet.Cancelled, match="time limit"):
        session.run(None, feeds, options)
    assert time.monotonic() - start < 10
    assert session.run(None, {"count": np.array(2, np.int64)}, options)[0] == 2


def _child(queue: multiprocessing.SimpleQueue, session: linnet.InferenceSession, x: np.ndarray) -> None:  # type: ignore[type-arg]
    queue.put(session.run(None, {"x": x})[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")
def test_fork_after_use() -> None:
    session = cnn(2)
    x = picture(4, 64)
    (expected,) = session.run(None, {"x": x})
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=_child, args=(queue, session, x)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
        np.testing.assert_array_equal(queue.get(), expected)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)


def test_asynchronous_runs() -> None:
    session = cnn(1)
    inputs = [picture(1, 5 + i) for i in range(10)]
    expected = [session.run(None, {"x": x})[0] for x in inputs]
    done = threading.Semaphore(0)
    found: dict[int, tuple[list, str]] = {}

    def finished(results: list, user_data: int, error: str) -> None:
        found[user_data] = results, error
        done.release()

    for i, x in enumerate(inputs):
        session.run_async(None, {"x": x}, finished, i)
    session.run_async(None, {"x": inputs[0][0]}, finished, -1)
    for _ in range(len(inputs) + 1):
        assert done.acquire(timeout=20)
    for i, wanted in enumerate(expected):
        np.testing.assert_array_equal(found[i][0][0], wanted)
    assert found[-1][0] == [] and "rank" in found[-1][1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_that_end_leave_nothing() -> None:
    """Each keeps the memory of small tensors for its next ones, half a megabyte at most."""
    session = linnet.InferenceSession(
        small_models.model(_chain(60), {"x": (1, ["n"])}, {"y": (1, ["m"])}, {"axes": np.array([0])})
    )

    def work() -> None:
        results = [session.run(None, {"x": np.ones(n, np.float32)})[0] for n in range(16, 1000, 16)]
        assert [len(result) for result in results] == list(range(16, 1000, 16))

    sizes = []
    for i in range(300):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if i in (99, 299):
            with open("/proc/self/statm") as file:
                sizes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert sizes[1] - sizes[0] < 16 << 20


def _chain(length: int) -> list[Any]:
    """Sizes that are known only when it runs: every tensor of the chain has memory of its own."""
    nodes = [helper.make_node("NonZero", ["x"], ["v0"]), helper.make_node("Cast", ["v0"], ["w0"], to=1)]
    nodes += [helper.make_node("Sin", [f"w{i}"], [f"w{i + 1}"]) for i in range(length)]
    return [*nodes, helper.make_node("Squeeze", [f"w{length}", "axes"], ["y"])]
