"""/metrics: well formed, counts what happened, and has every name that the dashboard and the alerts ask for."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linnet.serve
from linnet.serve import _request_log
from linnet.serve._drift import record_reference, save_reference
from repository_models import adds

parser = pytest.importorskip("prometheus_client.parser")

DEPLOY = Path(__file__).parents[2] / "deploy"
X = np.zeros((3, 2), np.float32)


def scrape(server: linnet.serve.Server) -> str:
    with urllib.request.urlopen(server.http_address + "/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text: str = answer.read().decode()
    return text


def values(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All series by name and labels."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser adds _total to counters that lack it, as Triton's do.
            name = sample.name.removesuffix("_total") if sample.name.startswith("nv_") else sample.name
            key = name, frozenset(sample.labels.items())
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the series that have these labels."""
    chosen = [v for (n, has), v in values(text).items() if n == name and set(labels.items()) <= has]
    assert chosen, f"no {name} with {labels}"
    return sum(chosen)


def lint(text: str) -> list[str]:
    """What `promtool check metrics` would complain of."""
    problems = []
    helps = re.findall(r"^# HELP (\S+) (.+)$", text, re.M)
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    names = [name for name, _ in helps]
    problems += [f"{name}: HELP {names.count(name)} times" for name in set(names) if names.count(name) > 1]
    problems += [f"{n}: TYPE {c} times" for n in types if (c := len(re.findall(rf"^# TYPE {n} ", text, re.M))) > 1]
    problems += [f"{name}: HELP without TYPE or the other way" for name in set(names) ^ set(types)]
    for name, kind in types.items():
        if name.startswith("nv_"):  # Triton's names are what they are
            continue
        if (kind == "counter") != name.endswith("_total"):
            problems.append(f"{name}: is a {kind}")
        if not re.fullmatch(r"(linnet|process)_[a-z0-9_]+", name) or re.search(r"_(ms|us|milliseconds)\b", name):
            problems.append(f"{name}: not a name in base units")
    current = ""
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            current = line.split()[2]
        elif not line.startswith("#"):
            base = re.split(r"[{ ]", line)[0]
            if types.get(current) == "histogram":
                base = re.sub(r"_(bucket|sum|count)$", "", base)
            if base != current:
                problems.append(f"{line}: under {current}")
    return problems


def check_histograms(text: str) -> int:
    """Buckets ascend, and the last is the count; how many there are."""
    ladders: dict[Any, list[tuple[float, float]]] = {}
    found = values(text)
    for (name, labels), number in found.items():
        if name.endswith("_bucket"):
            rest = frozenset((k, v) for k, v in labels if k != "le")
            ladders.setdefault((name[:-7], rest), []).append((float(dict(labels)["le"]), number))
    for (name, labels), ladder in ladders.items():
        counts = [count for _, count in sorted(ladder)]
        assert counts == sorted(counts)
        assert counts[-1] == found[f"{name}_count", labels]
        assert found[f"{name}_sum", labels] >= 0
    return len(ladders)


@pytest.fixture
def watched(tmp_path: Path, serve: Any) -> Any:
    """A server with all there is to count: drift, a log, Triton's names, a model that does not load."""
    repository = tmp_path / "repository"
    path = repository / "a.b"
    adds(1, path / "1" / "model.onnx")
    adds(2, path / "2" / "model.onnx")
    (path / "config.pbtxt").write_text("version_policy { all {} }\nmax_batch_size: 8\ndynamic_batching {}")
    (repository / "bad" / "1").mkdir(parents=True)
    (repository / "bad" / "1" / "model.onnx").write_bytes(b"no model")
    for version in ("1", "2"):
        model = path / version / "model.onnx"
        save_reference(
            record_reference(model, {"x": np.random.default_rng(0).standard_normal((50, 2), np.float32)}),
            model.with_name("drift.json"),
        )
    return serve(repository, settle_seconds=0.0, triton_metrics=True, log_requests=str(tmp_path / "log.jsonl"))


def test_well_formed_and_counted(watched: linnet.serve.Server) -> None:
    with linnet.serve.Client(watched.grpc_address) as client:
        for _ in range(7):
            client.infer("a.b", {"x": X})
        client.infer("a.b", {"x": X}, version="1")
        for inputs, model in (({"z": X}, "a.b"), ({"x": X}, "absent")):
            with contextlib.suppress(linnet.serve.ServeError):
                client.infer(model, inputs)
    body = json.dumps({"instances": [[1, 2]]}).encode()
    urllib.request.urlopen(watched.http_address + "/v1/models/a.b:predict", body).read()
    text = scrape(watched)
    assert lint(text) == []
    assert check_histograms(text) >= 4
    grpc = {"model": "a.b", "protocol": "oip_grpc"}
    assert value(text, "linnet_requests_total", code="OK", version="2", **grpc) == 7
    assert value(text, "linnet_requests_total", code="OK", version="1", **grpc) == 1
    assert value(text, "linnet_requests_total", code="INVALID_ARGUMENT", **grpc) == 1
    assert value(text, "linnet_requests_total", code="OK", protocol="tensorflow_rest") == 1
    assert value(text, "linnet_unmatched_requests_total", code="NOT_FOUND") == 1
    assert value(text, "linnet_rows_total") == 8 * 3 + 1
    assert value(text, "linnet_request_duration_seconds_count") == 9
    assert value(text, "linnet_batch_rows_sum") == 25
    assert value(text, "linnet_request_bytes_total") > 0 < value(text, "linnet_response_bytes_total")
    assert value(text, "linnet_server_ready") == 0
    states = {s: value(text, "linnet_models", state=s) for s in ("ready", "loading", "failed", "unloaded")}
    assert states == {"ready": 1, "loading": 0, "failed": 1, "unloaded": 0}
    assert value(text, "linnet_model_loads_total", model="bad", result="failed") == 1
    assert value(text, "linnet_model_last_load_ok", model="bad") == 0
    assert value(text, "linnet_model_loads_total", model="a.b", result="ok") == 2
    assert value(text, "linnet_model_up_to_date", model="a.b") == 1
    assert 0 < value(text, "linnet_model_load_seconds", model="a.b", version="2") < 60
    assert value(text, "linnet_model_memory_bytes", model="a.b", version="2") > 100
    assert value(text, "process_resident_memory_bytes") > 1 << 20
    assert value(text, "process_cpu_seconds_total") > 0
    assert 3 < value(text, "process_open_fds") < value(text, "process_max_fds")
    assert 0 < value(text, "linnet_server_uptime_seconds") < 600


def test_triton_names(watched: linnet.serve.Server, serve: Any, tmp_path: Path) -> None:
    with linnet.serve.Client(watched.grpc_address) as client:
        client.infer("a.b", {"x": X})
        with contextlib.suppress(linnet.serve.ServeError):
            client.infer("a.b", {"z": X})
    text = scrape(watched)
    labels = {"model": "a.b", "version": "2"}
    assert value(text, "nv_inference_request_success", **labels) == 1
    assert value(text, "nv_inference_request_failure", reason="OTHER", **labels) == 1
    assert value(text, "nv_inference_request_failure", reason="REJECTED", **labels) == 0
    assert value(text, "nv_inference_count", **labels) == 3
    assert value(text, "nv_inference_exec_count", **labels) == 1
    assert value(text, "nv_inference_pending_request_count", **labels) == 0
    parts = [
        value(text, f"nv_inference_{part}_duration_us", **labels)
        for part in ("queue", "compute_input", "compute_infer", "compute_output")
    ]
    assert sum(parts) <= value(text, "nv_inference_request_duration_us", **labels) + len(parts)
    assert value(text, "nv_model_load_duration_secs", **labels) > 0
    assert 0 <= value(text, "nv_cpu_utilization") <= 1
    assert value(text, "nv_cpu_memory_used_bytes") < value(text, "nv_cpu_memory_total_bytes")
    assert "nv_" not in scrape(serve(adds(0, tmp_path / "plain.onnx")))


def test_a_retired_version_leaves_and_the_others_go_on(tmp_path: Path, serve: Any) -> None:
    adds(1, tmp_path / "r" / "m" / "1" / "model.onnx")
    adds(1, tmp_path / "r" / "n" / "1" / "model.onnx")
    server = serve(tmp_path / "r", settle_seconds=0.0, control="explicit", load=("*",))
    with linnet.serve.Client(server.grpc_address) as client:
        for model in ("m", "n"):
            client.infer(model, {"x": X})
        before = values(scrape(server))
        adds(2, tmp_path / "r" / "m" / "2" / "model.onnx")
        client.load("m")
        client.infer("m", {"x": X})
        after = values(scrape(server))
        gone = {labels for name, labels in before.keys() - after.keys() if name == "linnet_requests_total"}
        assert [dict(labels)["version"] for labels in gone] == ["1"]
        counters = [k for k in before.keys() & after.keys() if k[0].endswith(("_total", "_bucket", "_count"))]
        assert len(counters) > 20
        assert [k for k in counters if after[k] < before[k]] == [], "no counter goes back"
        server.repository.rollback("m")
        returned = values(scrape(server))
        first = [(k, v) for k, v in before.items() if k[0] == "linnet_requests_total"]
        assert all(returned[k] >= v for k, v in first), "what is returned to goes on where it stopped"


def test_labels_are_escaped() -> None:
    from linnet.serve._metrics import _Text

    text = _Text()
    text.rows("linnet_x", "gauge", "Some.", [({"model": 'a"b\\c\nd'}, 1.5)])
    assert values(text.text()) == {("linnet_x", frozenset({("model", 'a"b\\c\nd')})): 1.5}


def exported(watched: linnet.serve.Server) -> set[str]:
    """Names on a server that has all there is to tell; those of traces are not used by dashboard or alerts."""
    with linnet.serve.Client(watched.grpc_address) as client:
        for model in ("a.b", "absent"):
            with contextlib.suppress(linnet.serve.ServeError):
                client.infer(model, {"x": X})
    return {name for name, _ in values(scrape(watched))} | {"up"}


FUNCTIONS = {"sum", "rate", "increase", "histogram_quantile", "changes", "by", "ignoring", "group_left", "and", "or"}


def names_in(expression: str) -> set[str]:
    """Metrics that a PromQL expression asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|(by|ignoring|group_left|on)\s*\([^)]*\)", " ", expression)
    return set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - FUNCTIONS


def labels_in(expression: str) -> set[str]:
    inside = " ".join(re.findall(r"\{([^}]*)\}", expression))
    grouped = " ".join(re.findall(r"(?:by|ignoring)\s*\(([^)]*)\)", expression))
    return set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", inside)) | set(re.findall(r"[a-z_]+", grouped))


def test_dashboard_and_alerts_ask_for_what_is_there(watched: linnet.serve.Server) -> None:
    there = exported(watched)
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    asked = {f"panel {p['title']}": t["expr"] for p in panels for t in p["targets"]}
    asked |= {f"annotation {a['name']}": a["expr"] for a in dashboard["annotations"]["list"]}
    variables = [v["definition"] for v in dashboard["templating"]["list"] if "definition" in v]
    asked |= {v: re.sub(r"label_values\((\w+),.*", r"\1", v) for v in variables}
    alerts = (DEPLOY / "alerts.yml").read_text()
    found = re.findall(r"- alert: (\w+).*\n\s+expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", alerts)
    assert len(found) == alerts.count("- alert:") > 8
    asked |= {f"alert {name}": block or line for name, block, line in found}
    assert len(asked) > 30
    for where, expression in asked.items():
        names = names_in(expression)
        assert names, where
        assert names <= there, f"{where}: {names - there} is not exported"
    known = {label for _, labels in values(scrape(watched)) for label, _ in labels} | {"instance", "job"}
    for where, expression in asked.items():
        assert labels_in(expression) <= known, where
    for code in set(re.findall(r"[A-Z]+(?:_[A-Z]+)*", " ".join(re.findall(r'code[=~!]+"([^"]*)"', str(asked))))):
        assert code in _request_log._NAMES.values()


def test_the_page_of_documentation_names_them_all(watched: linnet.serve.Server) -> None:
    page = (DEPLOY.parent / "docs" / "operate.md").read_text()
    told = set(re.findall(r"`((?:linnet|nv)_[a-z0-9_]+[a-z])`", page)) - {"linnet_trace_spans"}
    text = scrape(watched)
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert {n for n in told - kinds.keys() if not n.startswith("linnet_trace_")} == set()
    assert {n for n in kinds if n.startswith("linnet_")} - told == set()
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.M):
        assert kinds[name] == kind, name


def test_commands_of_the_documentation_are_commands() -> None:
    from linnet._cli import _parser

    page = (DEPLOY.parent / "docs" / "operate.md").read_text()
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S))
    commands = [line.split("#")[0].split() for line in blocks.splitlines() if line.startswith("linnet ")]
    assert len(commands) > 7
    for words in commands:
        _parser().parse_args(words[1:])


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads((DEPLOY / "grafana.json").read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
