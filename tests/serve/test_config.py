"""Settings from config.pbtxt, TF Serving's list of models and TOML: what they say is used, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from linnet.serve import _layouts, _pbtxt
from linnet.serve._config import ConfigError, ModelConfig, VersionPolicy
from linnet.serve._toml import read_toml
from repository_models import adds, version

FULL = """
# a comment
name: "m"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y", data_type: TYPE_FP32, dims: 2 } ]
version_policy { specific { versions: [ 3, 1 ] } }
dynamic_batching {
  max_queue_delay_microseconds: 100
  preferred_batch_size: [ 2, 4 ]
  priority_levels: 3 default_priority_level: 2
  default_queue_policy { max_queue_size: 7 default_timeout_microseconds: 9000 }
}
instance_group [ { count: 2 kind: KIND_CPU } ]
model_warmup { name: "w" batch_size: 4 inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 random_data: true } } }
parameters { key: "a" value { string_value: "b" } }
default_model_filename: "net.onnx"
"""


def triton(tmp_path: Path, text: str) -> tuple[ModelConfig, list[str]]:
    folder = tmp_path / "m"
    folder.mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_text(text)
    return _pbtxt.read_triton(folder)


def test_pbtxt(tmp_path: Path) -> None:
    config, warnings = triton(tmp_path, FULL)
    assert warnings == []
    assert config.policy == VersionPolicy(specific=(1, 3))
    assert (config.max_batch_size, config.batching, config.queue_delay_us) == (8, True, 100)
    assert (config.priority_levels, config.default_priority, config.instances) == (3, 2, 2)
    assert (config.max_queue_requests, config.timeout_us) == (7, 9000)
    assert config.preferred_batch_sizes == (2, 4)
    assert (config.inputs[0].name, config.inputs[0].dtype, config.inputs[0].dims) == ("x", "float32", (2,))
    assert config.filename == "net.onnx"
    assert config.parameters == {"a": "b"}
    assert config.warmup[0].batch_size == 4
    assert config.warmup[0].inputs["x"].random


def test_unknown_fields_are_warned_of(tmp_path: Path) -> None:
    text = """name: "m"
optimization { graph { level: 1 } cuda { graphs: true } note: "}" }  # }
max_batch_size: 3
batch_input [ { kind: BATCH_ELEMENT_COUNT target_name: [ "a", 'b' ] },
              { kind: BATCH_ELEMENT_COUNT } ]
runtime: "x"
input { name: "x" data_type: TYPE_FP32 dims: 2 is_non_linear_format_io: false }
"""
    config, warnings = triton(tmp_path, text)
    assert config.max_batch_size == 3
    assert config.inputs[0].name == "x"
    file = tmp_path / "m" / "config.pbtxt"
    assert [w.replace(str(file), "") for w in warnings] == [
        ":2: optimization is not known and has no effect",
        ":4: batch_input is not known and has no effect",
        ":6: runtime is not known and has no effect",
        ":7: is_non_linear_format_io is not known and has no effect",
    ]


def test_known_fields_without_effect_are_warned_of(tmp_path: Path) -> None:
    text = """response_cache { enable: true }
dynamic_batching {
  preserve_ordering: true
  priority_queue_policy { key: 1 value { max_queue_size: 2 } }
  default_queue_policy { timeout_action: DELAY }
}
"""
    _, warnings = triton(tmp_path, text)
    assert [w.split(": ", 1)[1] for w in warnings] == [
        "response_cache has no effect",
        "dynamic_batching.preserve_ordering has no effect",
        "dynamic_batching.priority_queue_policy has no effect",
        "dynamic_batching.default_queue_policy.timeout_action has no effect",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name: "other"', "name: 'other', but the folder is called 'm'"),
        ("max_batch_size: x", "Couldn't parse integer: x"),
        ('name: "m"\nmax_batch_size: 8\ninput {', "config.pbtxt:3"),
        ('platform: "tensorflow_savedmodel"', "platform: 'tensorflow_savedmodel' is not served here"),
        ("max_batch_size: -1", "max_batch_size: -1 is below 0"),
        ("sequence_batching { }", "sequence_batching: models that keep state"),
        ("model_transaction_policy { decoupled: true }", "decoupled"),
        ('default_model_filename: "../../etc/model.onnx"', "is not the plain name"),
        ("version_policy { specific { } }", "names no version"),
        ("input { name: 'x' dims: 1 }", "input 'x': data_type is missing"),
        ("input { data_type: TYPE_FP32 }", "an entry has no name"),
        ("input { name: 'x' data_type: TYPE_FP32 reshape { shape: 1 } }", "reshape is not supported"),
        ("dynamic_batching { default_priority_level: 2 priority_levels: 1 }", "2 of 1 levels"),
        ("unknown_thing {", "its value does not end"),
        (
            "model_warmup { inputs { key: 'x' value { data_type: TYPE_FP32 input_data_file: '../x' } } }",
            "is not the plain name",
        ),
    ],
)
def test_wrong_pbtxt(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        triton(tmp_path, text)
    assert expected in str(caught.value)
    assert "config.pbtxt" in str(caught.value)


def test_tensorflow_models(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(
        """model_config_list {
  config { name: "a" base_path: "/models/a" model_platform: "tensorflow"
           model_version_policy { specific { versions: 3 versions: 4 } }
           version_labels { key: "stable" value: 3 } }
  config { name: "b" base_path: "beside/b" model_version_policy { all {} } }
  config { name: "c" base_path: "c" model_version_policy { latest { num_versions: 2 } } }
}"""
    )
    a, b, c = _layouts.open_path(file).models
    assert (a.path, a.policy, a.labels) == (Path("/models/a"), VersionPolicy(specific=(3, 4)), {"stable": 3})
    assert (b.path, b.policy) == (tmp_path / "beside/b", VersionPolicy(latest=0))
    assert c.policy == VersionPolicy(latest=2)
    assert a.layout == "tensorflow"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'model_config_list { config { name: "a" base_path: "a" } config { name: "a" base_path: "a" } }',
            "listed twice",
        ),
        ('model_config_list { config { name: "../a" base_path: "a" } }', "cannot be a model's name"),
        ('model_config_list { config { name: "a" } }', "base_path: ''"),
        (
            'model_config_list { config { name: "a" base_path: "a" version_labels { key: "1" value: 1 } } }',
            "'1' is no label",
        ),
        ("model_config_list {\n config {\n name = 3", "models.config:3"),
    ],
)
def test_wrong_tensorflow_models(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        _layouts.open_path(file)
    assert expected in str(caught.value)
    assert "models.config" in str(caught.value)


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "linnet.toml"
    file.write_text(
        """
repositories = ["more"]
[server]
grpc_port = 0
http_port = false
max_message_bytes = "1.5 MiB"
drain_seconds = 2
control = "poll"
[server.tls]
certificate = "cert.pem"
key = "/etc/key.pem"
[models.digits]
path = "digits.onnx"
[models.net]
path = "net"
versions = { latest = 2 }
labels = { stable = 1, canary = 2 }
split = { stable = 0.9, canary = 0.1 }
max_batch_size = 4
queue_delay_us = 50
warmup = ["samples.npz"]
keep_previous = 2
"""
    )
    configuration = _layouts.open_path(file)
    server = configuration.server
    assert (server.grpc_port, server.http_port, server.max_message_bytes) == (0, None, 3 << 19)
    assert (server.drain_seconds, server.control) == (2.0, "poll")
    assert server.tls is not None
    assert (server.tls.certificate, server.tls.key) == (tmp_path / "cert.pem", Path("/etc/key.pem"))
    assert configuration.repositories == (tmp_path / "more",)
    digits, net = configuration.models
    assert (digits.name, digits.path, digits.layout) == ("digits", tmp_path / "digits.onnx", "file")
    assert (net.policy, net.labels, net.split) == (
        VersionPolicy(latest=2),
        {"stable": 1, "canary": 2},
        {"stable": 0.9, "canary": 0.1},
    )
    assert (net.max_batch_size, net.batching, net.keep_previous) == (4, True, 2)
    assert net.warmup[0].samples == tmp_path / "samples.npz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server\nx = 1", "at line 1"),
        ("", "has no models"),
        ("[servers]", "servers: there is no such key; did you mean 'server'?"),
        ("[server]\ngrcp_port = 1", "server.grcp_port: there is no such key; did you mean 'grpc_port'?"),
        ("[server]\ngrpc_port = 70000", "server.grpc_port: 70000 is no whole number from 0 on to 65535"),
        ("[server]\ngrpc_port = true", "server.grpc_port: True is no whole number"),
        ("[server]\nmax_message_bytes = 'big'", "server.max_message_bytes: 'big' is no size"),
        ("[server]\ncontrol = 'auto'", "server.control: 'auto' is none of none, poll, explicit"),
        ("[server.tls]\nkey = 'k'", "server.tls.certificate: is missing"),
        ("[models.m]", "models.m.path: is missing"),
        ("[models.'a/b']\npath='x'", "'a/b' cannot be a model's name"),
        ("[models.m]\npath = 'm'\nversions = 'newest'", "models.m.versions: 'newest' is none of"),
        ("[models.m]\npath = 'm'\nlabels = { 1 = 2 }", "models.m.labels.1: is no label"),
        ("[models.m]\npath = 'm'\nsplit = { a = -1 }", "models.m.split.a: -1 is no number from 0 on"),
        ("[models.m]\npath = 'm'\nweight = 0", "models.m.weight: must be above 0"),
        ("[models.m]\npath = 'm'\nfilename = '../x.onnx'", "models.m.filename"),
        ("models = 3", "models: is a table: [models]"),
    ],
)
def test_wrong_toml(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "linnet.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_toml(file)
    assert expected in str(caught.value)
    assert str(file) in str(caught.value)


def test_layouts(tmp_path: Path) -> None:
    bare = adds(1, tmp_path / "bare" / "net.onnx")
    (only,) = _layouts.open_path(bare).models
    assert (only.name, list(_layouts.versions(only))) == ("net", [1])

    version(tmp_path / "base", 3)
    (tmp_path / "base" / "3" / "model.onnx").rename(tmp_path / "base" / "3" / "saved.onnx")
    version(tmp_path / "base", 12)
    (base,) = _layouts.open_path(tmp_path / "base").models
    found = _layouts.versions(base)
    assert (base.name, base.layout, sorted(found)) == ("base", "tensorflow", [3, 12])
    assert found[3].model == tmp_path / "base" / "3" / "saved.onnx"

    version(tmp_path / "repository" / "a", 1)
    version(tmp_path / "repository" / "b", 1)
    (tmp_path / "repository" / "b" / "config.pbtxt").write_text("max_batch_size: 2")
    version(tmp_path / "repository" / ".hidden", 1)
    version(tmp_path / "repository" / "tmp.c", 1)
    models = _layouts.scan(_layouts.open_path(tmp_path / "repository")).models
    assert {name: model.max_batch_size for name, model in models.items()} == {"a": None, "b": 2}


def test_unclear_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file or folder"):
        _layouts.open_path(tmp_path / "nothing")
    adds(1, tmp_path / "flat" / "a.onnx")
    with pytest.raises(ConfigError, match="holds ONNX files and no folders"):
        _layouts.open_path(tmp_path / "flat")
    (tmp_path / "flat" / "config.pbtxt").write_text("")
    with pytest.raises(ConfigError, match="is one model of a Triton repository"):
        _layouts.open_path(tmp_path / "flat")
    (tmp_path / "readme.md").write_text("")
    with pytest.raises(ConfigError, match="what is this"):
        _layouts.open_path(tmp_path / "readme.md")
    adds(1, tmp_path / "my model.onnx")
    with pytest.raises(ConfigError, match="cannot be a model's name"):
        _layouts.open_path(tmp_path / "my model.onnx")


def test_a_wrong_model_leaves_the_others(tmp_path: Path) -> None:
    version(tmp_path / "good", 1)
    version(tmp_path / "bad", 1)
    (tmp_path / "bad" / "config.pbtxt").write_text('name: "other"')
    scan = _layouts.scan(_layouts.open_path(tmp_path))
    assert list(scan.models) == ["good"]
    assert "they must agree" in scan.problems["bad"]
