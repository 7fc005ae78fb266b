"""The status page: the JSON it draws, and the page itself in a real browser."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linnet.serve
from browser import Browser, find
from client_worker import unavailable
from linnet.serve import _status
from linnet.serve._drift import record_reference, save_reference
from repository_models import adds

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape, dtype=np.float32)


def get(server: linnet.serve.Server, path: str) -> tuple[bytes, Any]:
    with urllib.request.urlopen(server.http_address + path) as answer:
        return answer.read(), answer.headers


def status(server: linnet.serve.Server, since: float = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(server, f"/api/status?since={since}")[0])
    return found


@pytest.fixture
def served(tmp_path: Path, serve: Any) -> linnet.serve.Server:
    repository = tmp_path / "repository"
    for version in (1, 2):
        path = adds(version, repository / "adder" / str(version) / "model.onnx")
    save_reference(record_reference(path, {"x": normal(500, 2)}), path.with_name("drift.json"))
    (repository / "adder" / "config.pbtxt").write_text(
        "version_policy { all {} }\nmax_batch_size: 8\ndynamic_batching {}"
    )
    (repository / "bad" / "1").mkdir(parents=True)
    (repository / "bad" / "1" / "model.onnx").write_bytes(b"<script>alert(1)</script>")
    server: linnet.serve.Server = serve(repository, settle_seconds=0.0)
    return server


@pytest.fixture
def traffic(served: linnet.serve.Server) -> Iterator[None]:
    """Requests all the time, a part of them wrong."""
    stop = threading.Event()

    def go() -> None:
        with linnet.serve.Client(served.grpc_address) as client:
            while not stop.wait(0.004):
                client.infer("adder", {"x": normal(2, 2)})
                if time.monotonic() % 1 < 0.1:
                    with pytest.raises(linnet.serve.ServeError):
                        client.infer("adder", {"wrong": normal(2, 2)})

    thread = threading.Thread(target=go)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_percentiles() -> None:
    # Upper ends of buckets of an eighth of an octave: 8 to 9 us, 16 to 18 us, 1024 to 1152 us.
    latency = {9.0: 50, 18.0: 49, 1152.0: 1}
    assert _status.percentile(latency, 0.25) == pytest.approx(0.0085)
    assert _status.percentile(latency, 0.5) == pytest.approx(0.009)
    assert _status.percentile(latency, 0.99) == pytest.approx(0.018)
    assert _status.percentile(latency, 0.995) == pytest.approx(1.088)
    assert _status.percentile(latency, 1.0) == pytest.approx(1.152)
    assert _status.percentile({16.0: 4}, 1.0) == pytest.approx(0.016)
    assert _status.percentile({16.0: 4}, 0.5) == pytest.approx(0.0155)
    assert _status.percentile({}, 0.5) is None


def test_rates_are_what_was_sent(served: linnet.serve.Server) -> None:
    first = status(served)
    with linnet.serve.Client(served.grpc_address) as client:
        for _ in range(40):
            client.infer("adder", {"x": normal(2, 2)})
        client.infer("adder", {"x": normal(2, 2)}, version="1")
        for _ in range(5):
            with pytest.raises(linnet.serve.ServeError):
                client.infer("adder", {"wrong": normal(2, 2)})
    time.sleep(max(0.0, 1.0 - (time.time() - first["now"])))
    second = status(served)
    seconds = second["points"][-1]["t"] - first["now"]
    good, bad, p50, p99 = second["points"][-1]["models"]["adder"]
    assert good * seconds == pytest.approx(41, rel=0.1)
    assert bad * seconds == pytest.approx(5, rel=0.1)
    assert 0 < p50 <= p99 < 1000
    assert second["points"][-1]["models"][""] == second["points"][-1]["models"]["adder"]
    models = {model["name"]: model for model in second["models"]}
    newest, oldest = models["adder"]["versions"]
    assert (newest["version"], newest["state"], newest["requests"], newest["failed"]) == (2, "AVAILABLE", 40, 5)
    assert (oldest["version"], oldest["requests"]) == (1, 1)
    assert newest["batch"] == 2
    assert newest["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 2]}]
    assert [row["name"] for row in newest["drift"]] == ["x", "y"]
    assert oldest["drift"] == []
    assert models["bad"]["state"] == "failed"
    assert "not a readable ONNX model" in models["bad"]["versions"][0]["error"]
    assert second["server"]["state"] == "not ready"
    assert second["server"]["addresses"]["gRPC"] == served.grpc_address
    assert second["server"]["memory"] > 1 << 20


def test_history_is_kept_and_told_once(served: linnet.serve.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_status, "_MOST_OFTEN", 0.0)
    for _ in range(5):
        last = status(served)
    times = [point["t"] for point in last["points"]]
    assert len(times) == 4 and times == sorted(times), "for who opens the page later"
    assert len(status(served, since=times[-1])["points"]) == 1
    monkeypatch.setattr(_status, "_HISTORY", 0.0)
    assert len(status(served)["points"]) == 1
    monkeypatch.setattr(_status, "_MOST_OFTEN", 60.0)
    count = len(served._status._samples)
    status(served)
    assert len(served._status._samples) == count, "many who look cost no more than one"


def test_a_version_loaded_anew_counts_from_nothing(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_status, "_MOST_OFTEN", 0.0)
    path = adds(1, tmp_path / "m.onnx")
    server = serve(path, settle_seconds=0.0, control="explicit", load=("*",))
    with linnet.serve.Client(server.grpc_address) as client:
        for _ in range(9):
            client.infer("m", {"x": normal(1, 2)})
        status(server)
        adds(2, path)
        client.load("m")
        client.infer("m", {"x": normal(1, 2)})
        good, bad, *_ = status(server)["points"][-1]["models"]["m"]
        assert good > 0 <= bad, "a rate below 0 would be a jump back"


def test_addresses_and_headers(served: linnet.serve.Server) -> None:
    for path, kind in (("/", "text/html"), ("/page/page.js", "text/javascript"), ("/page/page.css", "text/css")):
        body, headers = get(served, path)
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(rb"https?://(?!www\.w3\.org/)", body), "a resource from elsewhere"
    for path in ("/page/", "/page/../_server.py", "/page/%2e%2e/_server.py", "/page/absent.js"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(served, path)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        get(served, "/api/status?since=yesterday")
    page = Path(_status.__file__).parent / "page"
    assert {file.name for file in page.iterdir()} == set(_status._FILES.values())


@pytest.fixture
def browser() -> Iterator[Browser]:
    path = find()
    if path is None:
        unavailable("there is no Chromium here")
    assert path is not None
    with Browser(path) as opened:
        yield opened


def text(browser: Browser, selector: str) -> str:
    found: str = browser.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
    return found


def test_in_a_browser(served: linnet.serve.Server, traffic: None, browser: Browser, tmp_path: Path) -> None:
    browser.look(1280, 900)
    browser.open(served.http_address + "/")
    browser.wait("document.querySelectorAll('#models tbody').length === 2")
    browser.wait("/M.*L.*L/.test(document.querySelector('#throughput path.first')?.getAttribute('d'))")
    browser.wait("/M.*L.*L/.test(document.querySelector('#latency path.second')?.getAttribute('d'))")
    browser.wait("/M.*L/.test(document.querySelector('#models td.spark path.first[d]')?.getAttribute('d'))")
    assert "adder" in text(browser, "#models") and "version 2" in text(browser, "#models")
    assert "serving" in text(browser, "#models") and "failed" in text(browser, "#models")
    assert "not a readable ONNX model" in text(browser, "#models tr.problem")
    assert text(browser, "#health") == "not ready: bad"
    rate = float(browser.evaluate("document.querySelector('#tiles b').firstChild.data"))
    shown = status(served)["points"][-1]["models"][""][0]
    assert shown / 3 < rate < shown * 3
    assert re.search(r"\d(µs|ms)", browser.evaluate("document.querySelectorAll('#tiles b')[1].innerText"))
    assert browser.evaluate("document.querySelectorAll('#drift-cards article').length") == 2
    assert browser.evaluate("document.querySelectorAll('#drift-cards rect.now').length") >= 20
    browser.wait("/steady/.test(document.querySelector('#drift-cards').innerText)")
    assert served.grpc_address in text(browser, "#calls") and served.http_address in text(browser, "#calls")
    assert f"linnet call adder --address {served.grpc_address}" in text(browser, "#calls")
    assert re.fullmatch(r"[\d.k]+/s · Linnet", browser.evaluate("document.title"))
    # One model alone, and more about it.
    browser.evaluate("document.querySelector('button[data-model=adder]').click()")
    assert "float32[batch, 2]" in text(browser, "#models tr.facts")
    assert text(browser, "#throughput figcaption b") == "adder: requests/s"
    label = browser.evaluate("document.querySelector('#latency svg').getAttribute('aria-label')")
    assert re.search(r"adder: latency; now: p50 .*[µm]s, p99 .*[µm]s", label)
    browser.evaluate("document.querySelector('#scope button').click()")
    assert browser.evaluate("document.querySelector('#models tr.facts') === null")
    # Nothing from elsewhere, nothing that the page's policy forbids, no error of a script.
    assert {address.split("/")[2] for address in browser.addresses if address.startswith("http")} == {
        served.http_address.split("/")[2]
    }
    assert browser.problems == []


def test_colours_and_sizes(served: linnet.serve.Server, traffic: None, browser: Browser, tmp_path: Path) -> None:
    """Dark is dark, a phone need not be scrolled sideways, and pictures are not empty."""
    browser.open(served.http_address + "/")
    ground = "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for width, dark in ((1280, False), (1280, True), (390, False), (320, True)):
        browser.look(width, 844, dark)
        browser.wait("document.querySelectorAll('#models tbody').length === 2")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        red = int(re.findall(r"\d+", browser.evaluate(ground))[0])
        assert (red < 60) == dark
        seen.add(red)
        file = tmp_path / f"{width}-{dark}.png"
        browser.picture(file)
        assert file.stat().st_size > 20_000
    assert len(seen) == 2


def test_a_server_that_goes_away_is_told(served: linnet.serve.Server, browser: Browser) -> None:
    browser.open(served.http_address + "/")
    browser.wait("document.querySelectorAll('#models tbody').length === 2")
    served.stop()
    browser.wait("!document.querySelector('#lost').hidden")
    assert "No answer from the server since" in text(browser, "#lost")
    assert text(browser, "#health") == "no answer"
