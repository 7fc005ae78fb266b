"""The scheduler, asked by many threads through the engine: nothing is lost, doubled or mixed up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linnet
import serving_models as models
from linnet import _core
from linnet.serve import ServeError
from linnet.serve._client import _outputs, _request
from linnet.serve._journal import Entry

OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNAVAILABLE = 0, 1, 3, 4, 14


def make(path: Path, name: str, **limits: Any) -> _core.serve.Served:
    options = _core.SessionOptions()
    options.threads = 1
    return _core.serve.Served(_core.Session(path, options), name, 1, **limits)


def ask(engine: _core.serve.Engine, model: str, feeds: dict[str, np.ndarray], priority: int = 0, **options: Any) -> Any:
    """(code, the first output or the message)."""
    try:
        answer = engine.infer_oip(_request(model, feeds, (), "", priority, ""), **options)
    except ServeError as error:
        return error.code, str(error)
    return OK, next(iter(_outputs(answer).values()))


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Runs each in a thread of its own, all started at once; their results."""
    results: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def work(index: int) -> None:
        gate.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


_gates: dict[int, tuple[threading.Event, threading.Event]] = {}


@pytest.fixture(autouse=True, scope="module")
def hold() -> Iterator[None]:
    """An operator that says that it runs, and ends when it is told to."""

    @linnet.register_operator("test", "Hold", infer=lambda x: x)
    def run(x: np.ndarray) -> np.ndarray:
        running, end = _gates[int(x[0])]
        running.set()
        end.wait(60)
        return x

    yield
    linnet.unregister_operator("test", "Hold")


class Busy:
    """Holds the engine's only CPU: while it lasts, requests gather."""

    def __init__(self, engine: _core.serve.Engine, folder: Path) -> None:
        self._engine = engine
        engine.set_model("busy", [make(models.hold(folder / "busy.onnx"), "busy")])

    def __enter__(self) -> None:
        running, self._end = _gates[id(self)] = threading.Event(), threading.Event()
        feeds = {"x": np.array([id(self)], np.int64)}
        self._thread = threading.Thread(target=ask, args=(self._engine, "busy", feeds))
        self._thread.start()
        assert running.wait(60)

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        del _gates[id(self)]


def wait_queued(served: _core.serve.Served, count: int) -> None:
    until = time.monotonic() + 10
    while served.statistics()["queued"] < count and time.monotonic() < until:
        time.sleep(1e-4)
    assert served.statistics()["queued"] >= count


def row(seed: int, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, width)).astype(np.float32)


def test_requests_that_wait_are_run_as_batches_of_powers_of_two(tmp_path: Path, in_process) -> None:
    engine = _core.serve.Engine(1)
    path = models.mlp(tmp_path / "mlp.onnx")
    served = make(path, "mlp", max_batch=8)
    engine.set_model("mlp", [served])
    results: list[Any] = []
    with Busy(engine, tmp_path):
        calls = [lambda i=i: results.append((i, ask(engine, "mlp", {"x": row(i)}))) for i in range(13)]
        threads = [threading.Thread(target=call) for call in calls]
        for thread in threads:
            thread.start()
        wait_queued(served, 13)
    for thread in threads:
        thread.join()
    counts = served.statistics()
    assert {size: spent["count"] for size, spent in counts["batches"].items()} == {8: 1, 4: 1, 1: 1}
    assert (counts["execution_count"], counts["inference_count"], counts["success"]["count"]) == (3, 13, 13)
    for i, (code, y) in results:
        # Bit for bit the row of a run here of the same number of rows.
        candidates = [in_process(path, {"x": np.repeat(row(i), n, 0)})["probabilities"][:1] for n in (8, 4, 1)]
        assert code == OK and any(y.tobytes() == one.tobytes() for one in candidates)


def test_requests_of_several_rows_are_put_together_up_to_the_limit(tmp_path: Path) -> None:
    engine = _core.serve.Engine(1)
    served = make(models.lookup(tmp_path / "lookup.onnx"), "lookup", max_batch=8)
    engine.set_model("lookup", [served])
    feeds = [np.arange(n) % 8 for n in (3, 5, 2, 20, 1)]
    with Busy(engine, tmp_path):
        results: list[Any] = [None] * len(feeds)

        def work(i: int) -> None:
            results[i] = ask(engine, "lookup", {"indices": feeds[i]})

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(feeds))]
        for n, thread in enumerate(threads):
            thread.start()
            wait_queued(served, n + 1)
    for thread in threads:
        thread.join()
    for (code, y), indices in zip(results, feeds, strict=True):
        assert code == OK and y.tolist() == (indices * 10.0).tolist()
    assert served.statistics()["execution_count"] == 3  # 3 + 5; 2 + 1; 20 alone


def test_outputs_asked_for_and_shapes_decide_what_fits_together(tmp_path: Path) -> None:
    engine = _core.serve.Engine(1)
    served = make(models.square(tmp_path / "square.onnx"), "square", max_batch=8)
    engine.set_model("square", [served])
    with Busy(engine, tmp_path):
        calls = [lambda k=k: ask(engine, "square", {"x": np.full((1, k, k), 2, np.float32)}) for k in (2, 3, 2, 3)]
        results: list[Any] = []
        threads = [threading.Thread(target=lambda c=c: results.append(c())) for c in calls]
        for thread in threads:
            thread.start()
        wait_queued(served, 4)
    for thread in threads:
        thread.join()
    assert sorted(y.shape for _, y in results) == [(1, 2, 2), (1, 2, 2), (1, 3, 3), (1, 3, 3)]
    assert all(np.all(y == 4 * y.shape[1]) for _, y in results)
    assert served.statistics()["execution_count"] == 2


def test_a_delay_lets_a_batch_form_while_there_is_nothing_else_to_do(tmp_path: Path) -> None:
    engine = _core.serve.Engine(2)
    served = make(models.mlp(tmp_path / "mlp.onnx"), "mlp", max_batch=4, queue_delay_us=500_000)
    engine.set_model("mlp", [served])
    started = time.monotonic()
    results = together([lambda i=i: ask(engine, "mlp", {"x": row(i)}) for i in range(4)])
    assert all(code == OK for code, _ in results) and served.statistics()["execution_count"] == 1
    assert time.monotonic() - started < 0.45  # a full batch does not wait for the delay's end
    assert ask(engine, "mlp", {"x": row(9)})[0] == OK  # and one that nobody joins is run in the end


def test_one_bad_request_does_not_fail_those_it_was_put_together_with(tmp_path: Path) -> None:
    engine = _core.serve.Engine(1)
    served = make(models.lookup(tmp_path / "lookup.onnx"), "lookup", max_batch=8)
    engine.set_model("lookup", [served])
    results: dict[int, Any] = {}
    indices = [0, 1, 99, 3, 4, 5, 6, 7]
    with Busy(engine, tmp_path):

        def work(index: int) -> None:
            results[index] = ask(engine, "lookup", {"indices": np.array([index])})

        threads = [threading.Thread(target=work, args=(index,)) for index in indices]
        for thread in threads:
            thread.start()
        wait_queued(served, 8)
    for thread in threads:
        thread.join()
    for index in indices:
        code, y = results[index]
        assert (code == INVALID_ARGUMENT and "99" in y) if index == 99 else (code == OK and y.tolist() == [index * 10])


def test_a_model_whose_rows_cannot_be_told_apart_is_run_request_by_request(tmp_path: Path) -> None:
    engine = _core.serve.Engine(1)
    served = make(models.column_sums(tmp_path / "sums.onnx"), "sums", max_batch=8)
    engine.set_model("sums", [served])
    for _ in range(2):
        with Busy(engine, tmp_path):
            results: dict[int, Any] = {}

            def work(i: int, results: dict[int, Any] = results) -> None:
                results[i] = ask(engine, "sums", {"x": np.full((2, 3), i, np.float32)})

            threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
            for thread in threads:
                thread.start()
            wait_queued(served, 6)
        for thread in threads:
            thread.join()
        for i in range(6):
            assert results[i][0] == OK and results[i][1].tolist() == [2.0 * i] * 3
    assert set(served.statistics()["batches"]) <= {2, 8}  # once as a batch, in vain; later never again


@pytest.mark.parametrize("limits", [{"max_queue_requests": 5}, {"max_queue_bytes": 5 * 300}])
def test_a_full_queue_refuses_at_once(tmp_path: Path, limits: dict[str, int]) -> None:
    engine = _core.serve.Engine(1)
    served = make(models.mlp(tmp_path / "mlp.onnx"), "mlp", **limits)
    engine.set_model("mlp", [served])
    size = len(_request("mlp", {"x": row(0)}, (), "", 0, ""))
    room = limits.get("max_queue_requests") or limits["max_queue_bytes"] // size
    results: list[Any] = []
    with Busy(engine, tmp_path):
        threads = [
            threading.Thread(target=lambda i=i: results.append(ask(engine, "mlp", {"x": row(i)}))) for i in range(20)
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 10
        while len(results) < 20 - room and time.monotonic() < until:
            time.sleep(1e-3)
        refused = list(results)  # while the others still wait
        assert served.statistics()["queued"] == room
    for thread in threads:
        thread.join()
    assert [code for code, _ in refused] == [UNAVAILABLE] * (20 - room) and "queue" in refused[0][1]
    assert sorted(code for code, _ in results) == [OK] * room + [UNAVAILABLE] * (20 - room)


def test_higher_priorities_go_first(tmp_path: Path) -> None:
    engine = _core.serve.Engine(1)
    engine.enable_journal()
    served = make(models.heavy(tmp_path / "heavy.onnx"), "heavy", priority_levels=3, default_priority=2)
    engine.set_model("heavy", [served])
    with Busy(engine, tmp_path):
        threads = []
        for n, priority in enumerate([3, 0, 1, 3, 1, 2, 77]):
            options = {"priority": priority, "traceparent": str(priority)}
            threads.append(threading.Thread(target=ask, args=(engine, "heavy", {"x": row(0, 192)}), kwargs=options))
            threads[-1].start()
            wait_queued(served, n + 1)
    for thread in threads:
        thread.join()
    # In the order in which they began to run, whenever their threads came to say so.
    entries = [Entry(*row) for row in engine.journal(100)[0] if row[1] == "heavy"]
    entries.sort(key=lambda entry: entry.end - entry.total + entry.decode + entry.queue)
    ranks = [{0: 2, 77: 3}.get(int(entry.traceparent), int(entry.traceparent)) for entry in entries]
    assert ranks == [1, 1, 2, 2, 3, 3, 3]


def test_cancelled_and_late_requests_are_not_run(tmp_path: Path) -> None:
    engine = _core.serve.Engine(1)
    served = make(models.mlp(tmp_path / "mlp.onnx"), "mlp", max_batch=8)
    engine.set_model("mlp", [served])
    results: dict[str, Any] = {}
    cancel = _core.serve.Cancel()
    with Busy(engine, tmp_path):
        asked = {
            "cancelled": {"cancel": cancel},
            "late": {"timeout_s": 0.02},
            "good": {"timeout_s": 60.0, "cancel": _core.serve.Cancel()},
        }

        def work(name: str) -> None:
            results[name] = ask(engine, "mlp", {"x": row(0)}, **asked[name])

        threads = [threading.Thread(target=work, args=(name,)) for name in asked]
        for thread in threads:
            thread.start()
        wait_queued(served, 3)
        cancel()
        threads[0].join()
        threads[1].join()
        assert (results["cancelled"][0], results["late"][0]) == (CANCELLED, DEADLINE_EXCEEDED)
        assert "good" not in results
    threads[2].join()
    assert results["good"][0] == OK
    assert served.statistics()["inference_count"] == 1
    before = served.statistics()["inference_count"]
    assert ask(engine, "mlp", {"x": row(0)}, cancel=cancel)[0] == CANCELLED  # before it came
    assert ask(engine, "mlp", {"x": row(0)}, timeout_s=0.0)[0] == DEADLINE_EXCEEDED
    assert served.statistics()["inference_count"] == before


def test_one_slow_run_does_not_shut_the_door(tmp_path: Path) -> None:
    """What a run takes is estimated from those before; an estimate that is wrong must be found out."""
    engine = _core.serve.Engine(1)
    served = make(models.square(tmp_path / "square.onnx"), "square")
    engine.set_model("square", [served])
    assert ask(engine, "square", {"x": np.ones((1, 1500, 1500), np.float32)})[0] == OK
    codes = [ask(engine, "square", {"x": np.ones((1, 2, 2), np.float32)}, timeout_s=0.02)[0] for _ in range(5)]
    assert codes == [OK] * 5


def test_many_threads_with_cancels_deadlines_and_priorities(tmp_path: Path) -> None:
    engine = _core.serve.Engine(2)
    served = {
        "mlp": make(models.mlp(tmp_path / "mlp.onnx"), "mlp", max_batch=16, priority_levels=4),
        "lookup": make(models.lookup(tmp_path / "lookup.onnx"), "lookup", max_batch=8, queue_delay_us=200),
        "sums": make(models.column_sums(tmp_path / "sums.onnx"), "sums", max_batch=8),
    }
    for name, one in served.items():
        engine.set_model(name, [one])
    expected = {i: ask(engine, "mlp", {"x": row(i)})[1] for i in range(16)}
    each, counted = 60, {name: one.statistics() for name, one in served.items()}
    canceller: list[tuple[float, Any]] = []
    stop = threading.Event()

    def cancel_later() -> None:
        while not stop.is_set():
            while canceller:
                _, cancel = canceller.pop()
                cancel()
            time.sleep(2e-4)

    def work(seed: int) -> list[tuple[str, int]]:
        rng = random.Random(seed)
        done = []
        for _ in range(each):
            model = rng.choice(list(served))
            options: dict[str, Any] = {}
            if rng.random() < 0.3:
                options["timeout_s"] = rng.random() * 4e-3
            if rng.random() < 0.3:
                options["cancel"] = _core.serve.Cancel()
                canceller.append((0.0, options["cancel"]))
            i = rng.randrange(16)
            if model == "mlp":
                code, y = ask(engine, model, {"x": row(i)}, rng.randrange(5), **options)
                good = code != OK or np.allclose(y, expected[i], rtol=1e-4, atol=1e-6)
            elif model == "lookup":
                indices = np.array([rng.randrange(8) for _ in range(rng.randrange(1, 5))])
                code, y = ask(engine, model, {"indices": indices}, **options)
                good = code != OK or y.tolist() == (indices * 10.0).tolist()
            else:
                code, y = ask(engine, model, {"x": np.full((3, 3), i, np.float32)}, **options)
                good = code != OK or y.tolist() == [3.0 * i] * 3
            assert good and code in (OK, CANCELLED, DEADLINE_EXCEEDED), (model, code, y)
            done.append((model, code))
        return done

    helper = threading.Thread(target=cancel_later)
    helper.start()
    results = together([lambda s=s: work(s) for s in range(64)])
    stop.set()
    helper.join()
    assert all(results), "a thread died"
    done = [one for result in results for one in result]
    assert len(done) == 64 * each
    for name, one in served.items():
        codes = [code for model, code in done if model == name]
        after = one.statistics()
        assert after["success"]["count"] - counted[name]["success"]["count"] == codes.count(OK) > 0
        assert after["fail"]["count"] == len(codes) - codes.count(OK)
        assert (after["queued"], after["in_flight"]) == (0, 0)


def test_versions_change_under_load_without_a_mixed_answer(tmp_path: Path) -> None:
    engine = _core.serve.Engine(2)
    one, two = (make(models.constant(tmp_path / f"{v}.onnx", v), "constant", max_batch=8) for v in (1, 2))
    engine.set_model("constant", [one])
    stop = threading.Event()

    def client() -> list[tuple[int, Any]]:
        found = []
        while not stop.is_set():
            code, y = ask(engine, "constant", {"x": np.zeros((3, 1), np.float32)})
            found.append((code, sorted({float(v) for v in y.ravel()}) if code == OK else y))
        return found

    def change() -> list[tuple[int, Any]]:
        for i in range(400):
            engine.set_model("constant", [one if i % 2 else two])
            time.sleep(5e-4)
        stop.set()
        return []

    results = together([client] * 8 + [change])
    answers = [answer for result in results for answer in result]
    assert {code for code, _ in answers} == {OK}
    assert {tuple(y) for _, y in answers} == {(1.0,), (2.0,)}
    assert one.in_flight == two.in_flight == 0


def test_a_flooded_model_leaves_another_its_share(tmp_path: Path) -> None:
    engine = _core.serve.Engine(2)
    heavy = make(models.heavy(tmp_path / "heavy.onnx"), "heavy")
    light = make(models.mlp(tmp_path / "mlp.onnx"), "mlp")
    engine.set_model("heavy", [heavy])
    engine.set_model("mlp", [light])
    stop = threading.Event()

    def flood() -> int:
        count = 0
        while not stop.is_set():
            count += ask(engine, "heavy", {"x": row(0, 192)})[0] == OK
        return count

    def closed_loop() -> int:
        until = time.monotonic() + 1.5
        count = 0
        while time.monotonic() < until:
            count += ask(engine, "mlp", {"x": row(0)})[0] == OK
        stop.set()
        return count

    *heavies, light_count = together([flood] * 12 + [closed_loop])
    queue = light.statistics()["queue"]
    run = heavy.statistics()["run"]
    assert sum(heavies) > 0 and light_count > 100
    # It does not wait for the other's runs.
    assert queue["ns"] / queue["count"] < 0.25 * run["ns"] / run["count"]


def test_what_should_run_at_once_does_not_wait(tmp_path: Path) -> None:
    engine = _core.serve.Engine(1)
    served = make(models.square(tmp_path / "square.onnx"), "square", max_batch=8)
    engine.set_model("square", [served])
    request = _request("square", {"x": np.ones((1, 1, 1), np.float32)}, (), "", 0, "")

    def runs_at_once() -> bool:
        for _ in range(1000):  # until it is known to be short
            engine.infer_oip(request)
            if engine.infer_oip(request, -1.0, None, "", True) is not None:
                return True
        return False

    assert runs_at_once()
    with Busy(engine, tmp_path):
        assert engine.infer_oip(request, -1.0, None, "", True) is None
        assert served.statistics()["queued"] == 0
    assert runs_at_once()
