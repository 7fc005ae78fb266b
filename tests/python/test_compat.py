"""The same script, once with ``import onnxruntime as ort`` and once with ``import linnet as ort``, must do the same.

Each script leaves what it found in ``result``. Errors are compared by the exception's name at
``ort.capi.onnxruntime_pybind11_state``, or as the built-in exception that scripts catch.
"""

from __future__ import annotations

import textwrap
import time
from typing import Any

import numpy as np
import pytest

import small_models

pytest.importorskip("onnxruntime")

SETUP = """
import numpy as np
import {module} as ort
from {module}.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidProtobuf, NoSuchFile
def caught(action, *kinds):
    try:
        action()
    except kinds as error:
        return [kind.__name__ for kind in kinds if isinstance(error, kind)]
    return []
x = np.array([[1, -2, 3, -4]], np.float32)
"""

SCRIPTS = {
    "basic": """
        session = ort.InferenceSession(relu, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        result = [session.run(None, {name: x}), session.run(["y"], {"x": x}), session.run([], {"x": x})]
    """,
    "twice the same output": """
        result = ort.InferenceSession(relu).run(["y", "y"], {"x": x})
    """,
    "tuple of names": """
        result = ort.InferenceSession(two_outputs).run(("product",), {"a": np.ones((2, 3), np.float32),
                                                                     "b": np.full((2, 3), 2, np.float32)})
    """,
    "path with options and provider options": """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = True
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = ort.InferenceSession(path, sess_options=options, providers=[("CPUExecutionProvider", {})])
        result = [session.run(None, {"x": x}), options.get_session_config_entry("session.intra_op.allow_spinning"),
                  session.get_providers(), session.get_provider_options()]
    """,
    "ports": """
        ports = [*ort.InferenceSession(cnn).get_inputs(), *ort.InferenceSession(cnn).get_outputs()]
        result = [(p.name, p.type, p.shape) for p in ports]
    """,
    "metadata": """
        meta = ort.InferenceSession(described).get_modelmeta()
        result = [meta.producer_name, meta.graph_name, meta.domain, meta.description, meta.version,
                  meta.custom_metadata_map, meta.graph_description]
    """,
    "free dimension override": """
        options = ort.SessionOptions()
        options.add_free_dimension_override_by_name("n", 1)
        session = ort.InferenceSession(relu, options)
        result = [session.get_inputs()[0].shape, session.run(None, {"x": x})]
    """,
    "defaults of options": """
        o, r = ort.SessionOptions(), ort.RunOptions()
        result = [o.intra_op_num_threads, o.inter_op_num_threads, int(o.graph_optimization_level),
                  int(o.execution_mode), int(o.execution_order), o.enable_profiling, o.enable_cpu_mem_arena,
                  o.enable_mem_pattern, o.enable_mem_reuse, o.log_severity_level, o.log_verbosity_level, o.logid,
                  str(o.optimized_model_filepath), r.terminate, r.log_severity_level, r.log_verbosity_level, r.logid,
                  r.only_execute_path_to_fetches]
    """,
    "run options": """
        options = ort.RunOptions()
        options.log_severity_level = 3
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        result = [ort.InferenceSession(relu).run(None, {"x": x}, options),
                  options.get_run_config_entry("memory.enable_memory_arena_shrinkage")]
    """,
    "lists as inputs": """
        result = ort.InferenceSession(relu).run(None, {"x": [[1.0, -1, 2, -2], [0.5, 3, 4, -5]]})
    """,
    "fortran order, slices, zero size": """
        session = ort.InferenceSession(relu)
        wide = np.arange(48, dtype=np.float32).reshape(4, 12) - 20
        result = [session.run(None, {"x": v})[0] for v in
                  (np.asfortranarray(wide[:, :4]), wide[::2, ::3], wide[:, 8:4:-1], np.zeros((0, 4), np.float32))]
    """,
    "OrtValue": """
        a = np.arange(6, dtype=np.float32).reshape(2, 3)
        value = ort.OrtValue.ortvalue_from_numpy(a)
        facts = [value.shape(), value.data_type(), value.element_type(), value.device_name(), value.has_value(),
                 value.is_tensor(), value.is_tensor_sequence(), value.is_sparse_tensor(),
                 value.tensor_size_in_bytes(), isinstance(value.data_ptr(), int)]
        a[0, 0] = 9  # they share memory
        seen = value.numpy().copy()
        value.numpy()[1, 1] = -7
        value_after = a.copy()
        value.update_inplace(np.ones((2, 3), np.float32))
        empty = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.int64)
        half = ort.OrtValue.ortvalue_from_shape_and_type([4], 10)
        wrong = caught(lambda: value.update_inplace(np.ones((5, 3), np.float32)), RuntimeError)
        result = [facts, seen, value_after, a, empty.data_type(), empty.shape(), half.data_type(), wrong]
    """,
    "OrtValues in and out": """
        session = ort.InferenceSession(relu)
        value = ort.OrtValue.ortvalue_from_numpy(x)
        outs = session.run_with_ort_values(["y"], {"x": value})
        result = [outs[0].numpy(), outs[0].data_type(), session.run(None, {"x": value})]
    """,
    "io binding": """
        session = ort.InferenceSession(relu)
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y")
        session.run_with_iobinding(binding)
        first = [binding.copy_outputs_to_cpu(), binding.get_outputs()[0].numpy()]
        target = ort.OrtValue.ortvalue_from_shape_and_type([1, 4], np.float32)
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(2 * x))
        binding.bind_ortvalue_output("y", target)
        session.run_with_iobinding(binding)
        second = target.numpy().copy()
        memory = np.zeros((1, 4), np.float32)
        binding.clear_binding_outputs()
        binding.bind_output("y", "cpu", 0, np.float32, [1, 4], memory.ctypes.data)
        binding.bind_input("x", "cpu", 0, np.float32, [1, 4], x.ctypes.data)
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        unknown = caught(lambda: binding.bind_cpu_input("q", x), RuntimeError)
        result = [first, second, memory, unknown]
    """,
    "some outputs bound to memory": """
        session = ort.InferenceSession(two_outputs)
        a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 3, np.float32)
        memory = np.zeros((2, 3), np.float32)
        binding = session.io_binding()
        binding.bind_cpu_input("a", a)
        binding.bind_cpu_input("b", b)
        binding.bind_output("product", "cpu", 0, np.float32, [2, 3], memory.ctypes.data)
        binding.bind_output("sum")
        session.run_with_iobinding(binding)
        result = [memory, binding.copy_outputs_to_cpu()]
    """,
    "asynchronous": """
        import threading
        done = threading.Event()
        found = []
        def finished(results, user_data, error):
            found.extend([results, user_data, error])
            done.set()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        session = ort.InferenceSession(relu, options)
        session.run_async(["y"], {"x": x}, finished, "mine")
        assert done.wait(20)
        result = found
    """,
    "profiling": """
        import json, os, tempfile
        with tempfile.TemporaryDirectory() as folder:
            options = ort.SessionOptions()
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(folder, "trace")
            session = ort.InferenceSession(cnn, options)
            session.run(None, {"x": np.ones((1, 1, 16, 16), np.float32)})
            file = session.end_profiling()
            with open(file) as f:
                events = json.load(f)
            nodes = [e for e in events if e.get("cat") == "Node" and "dur" in e]
            conv = [e for e in nodes if "Conv" in e["args"].get("op_name", "")]
        result = [os.path.basename(file).startswith("trace"), len(conv) > 0, session.end_profiling(),
                  all(e["name"].endswith("_kernel_time") and e["args"]["provider"] for e in conv),
                  len([e for e in events if e["cat"] == "Session" and e["name"] == "model_run"]),
                  all({"name", "ts", "dur", "args"} <= set(e) for e in nodes)]
    """,
    "profiling off": """
        result = ort.InferenceSession(relu).end_profiling()
    """,
    "strings": """
        result = ort.InferenceSession(text).run(None, {"x": np.array(["a", "bc", "ü"], dtype=object)})
    """,
    "sequences": """
        result = ort.InferenceSession(sequence).run(None, {"x": [x, 2 * x]})
    """,
    "scalars": """
        result = ort.InferenceSession(scalar).run(None, {"x": np.array(3, np.int64)})
    """,
    "names of the package": """
        result = [ort.get_device(), "CPUExecutionProvider" in ort.get_available_providers(),
                  [int(v) for v in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
                                    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
                                    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
                                    ort.GraphOptimizationLevel.ORT_ENABLE_ALL)],
                  ort.set_default_logger_severity(3), isinstance(ort.__version__, str),
                  ort.InferenceSession(relu).get_overridable_initializers(), ort.OrtDevice.make("cpu", 0).device_type()]
    """,
    "initializers that are inputs": """
        session = ort.InferenceSession(default)
        args = session.get_overridable_initializers()
        result = [[i.name for i in session.get_inputs()], [(a.name, a.type, a.shape) for a in args],
                  session.run(None, {"x": x}), session.run(None, {"w": 2 * x[0], "x": x}), session.run(None, {"x": x})]
    """,
    "other initializers": """
        options = ort.SessionOptions()
        value = ort.OrtValue.ortvalue_from_numpy(np.full(4, 10, np.float32))
        options.add_initializer("w", value)
        result = [ort.InferenceSession(default, options).run(None, {"x": x})]
        options = ort.SessionOptions()
        options.add_external_initializers(["w"], [value])
        result += ort.InferenceSession(external, options).run(None, {"x": x})
    """,
    "free dimension by denotation": """
        options = ort.SessionOptions()
        options.add_free_dimension_override_by_denotation("DATA_BATCH", 1)
        session = ort.InferenceSession(denoted, options)
        result = [session.get_inputs()[0].shape, session.run(None, {"x": x})]
    """,
    "enumerations": """
        level, mode = ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.ExecutionMode.ORT_PARALLEL
        result = [str(level), f"{level}", level.name, repr(mode), str(ort.ExecutionOrder.DEFAULT)]
    """,
    "options are copied": """
        options = ort.SessionOptions()
        session = ort.InferenceSession(relu, options)
        options.intra_op_num_threads = 3
        options.add_session_config_entry("later", "1")
        result = [session.get_session_options().intra_op_num_threads,
                  caught(lambda: session.get_session_options().get_session_config_entry("later"), RuntimeError)]
    """,
    "maps": """
        ints, texts = ort.InferenceSession(zip_ints), ort.InferenceSession(zip_texts)
        value = ints.run_with_ort_values(None, {"x": ort.OrtValue.ortvalue_from_numpy(x)})[0]
        result = [ints.get_outputs()[0].type, texts.get_outputs()[0].type, ints.run(None, {"x": x}),
                  texts.run(None, {"x": x}), value.data_type()]
    """,
    "a map as input": """
        session = ort.InferenceSession(words)
        result = [session.get_inputs()[0].type, session.run(None, {"x": {"b": 3, "a": 1, "z": 4}})]
    """,
    "one element for a scalar": """
        result = ort.InferenceSession(scalar).run(None, {"x": np.array([3], np.int64)})[0].item()
    """,
    "objects as text": """
        result = ort.InferenceSession(text).run(None, {"x": np.array([1, "b", 2.5], dtype=object)})
    """,
    "DLPack": """
        value = ort.OrtValue.ortvalue_from_numpy(x)
        result = [np.from_dlpack(value), value.__dlpack_device__()[0], ort.OrtValue.from_dlpack(x).numpy(),
                  ort.OrtValue.from_dlpack(np.array([True, False])).data_type()]
    """,
    "vectors of OrtValues": """
        session = ort.InferenceSession(relu)
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y")
        session.run_with_iobinding(binding)
        outs = binding.get_outputs_as_ortvaluevector()
        result = [len(outs), [o.numpy() for o in outs], binding._iobinding.copy_outputs_to_cpu()]
    """,
    "onnxruntime's own module": """
        from importlib import import_module
        state = import_module(ort.__name__ + ".capi.onnxruntime_pybind11_state")
        inner = import_module(ort.__name__ + ".capi.onnxruntime_inference_collection")
        device = state.OrtDevice(state.OrtDevice.cpu(), state.OrtDevice.default_memory(), 0)
        value = ort.OrtValue(state.OrtValue.ortvalue_from_numpy(x, device))
        session = ort.InferenceSession(path)
        result = [value.shape(), issubclass(ort.InferenceSession, inner.Session), len(state.OrtValueVector()),
                  session._model_path == path, [i.name for i in session._inputs_meta],
                  state.InferenceSession is not None, state.SessionIOBinding is not None]
    """,
    "an ONNX backend": """
        from importlib import import_module
        backend = import_module(ort.__name__ + ".backend")
        result = [backend.prepare(path, device="CPU").run(x)[0], backend.prepare(path).run([x])[0],
                  backend.supports_device("CPU")]
    """,
    "errors of inputs": """
        session = ort.InferenceSession(relu)
        result = [
            caught(lambda: session.run(None, {}), ValueError),
            caught(lambda: session.run(None, {"x": x, "z": x}), InvalidArgument),
            caught(lambda: session.run(None, {"x": x.astype(np.float64)}), InvalidArgument),
            caught(lambda: session.run(None, {"x": x[0]}), InvalidArgument),
            caught(lambda: session.run(None, {"x": np.ones((1, 5), np.float32)}), InvalidArgument),
            caught(lambda: session.run(["q"], {"x": x}), InvalidArgument),
            session.run(None, {"x": x}),
        ]
    """,
    "errors of models": """
        result = [
            caught(lambda: ort.InferenceSession("/nowhere/at/all.onnx"), NoSuchFile),
            caught(lambda: ort.InferenceSession(b"this is no model"), InvalidProtobuf),
            caught(lambda: ort.InferenceSession(3), TypeError),
            caught(lambda: ort.SessionOptions().get_session_config_entry("never set"), RuntimeError),
            issubclass(NoSuchFile, Exception), issubclass(Fail, Exception),
        ]
    """,
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from onnx import TensorProto, helper

    described = small_models.parse(small_models.relu())
    described.producer_name, described.domain, described.doc_string = "someone", "org.example", "what it is for"
    described.model_version = 7
    helper.set_model_props(described, {"labels": "a,b"})
    path = tmp_path_factory.mktemp("models") / "relu.onnx"
    path.write_bytes(small_models.relu())
    described.graph.doc_string = "what the graph is for"
    vector, rows = (TensorProto.FLOAT, [4]), (TensorProto.FLOAT, ["n", 4])
    add = [helper.make_node("Add", ["x", "w"], ["y"])]
    default = small_models.model(add, {"x": rows, "w": vector}, {"y": rows}, {"w": np.ones(4, np.float32)})
    external = small_models.parse(default)
    del external.graph.input[1]
    weights = external.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="absent.bin")
    denoted = small_models.parse(small_models.relu())
    denoted.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"

    def classical(op: str, kinds: tuple[Any, Any], **attributes: Any) -> bytes:
        nodes = [helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **attributes)]
        made = small_models.parse(small_models.model(nodes, {"x": kinds[0]}, {"y": kinds[1]}))
        made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
        return made.SerializeToString()

    def mapped(key: int, value: int) -> Any:
        return helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, None))

    int_maps = helper.make_sequence_type_proto(mapped(TensorProto.INT64, TensorProto.FLOAT))
    text_maps = helper.make_sequence_type_proto(mapped(TensorProto.STRING, TensorProto.FLOAT))
    counts = (mapped(TensorProto.STRING, TensorProto.FLOAT), (TensorProto.FLOAT, [1, 3]))
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    sequence = helper.make_sequence_type_proto(kind)
    return {
        "relu": small_models.relu(),
        "two_outputs": small_models.two_outputs(),
        "cnn": small_models.small_cnn(),
        "default": default,
        "external": external.SerializeToString(),
        "denoted": denoted.SerializeToString(),
        "zip_ints": classical("ZipMap", (rows, int_maps), classlabels_int64s=[0, 1, 2, 3]),
        "zip_texts": classical("ZipMap", (rows, text_maps), classlabels_strings=["a", "b", "c", "d"]),
        "words": classical("DictVectorizer", counts, string_vocabulary=["a", "c", "b"]),
        "described": described.SerializeToString(),
        "path": str(path),
        "text": small_models.identity(TensorProto.STRING, ["n"]),
        "scalar": small_models.identity(TensorProto.INT64, []),
        "sequence": small_models.model([helper.make_node("Identity", ["x"], ["y"])], {"x": sequence}, {"y": sequence}),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return np.array_equal(a, b) if a.dtype.kind != "f" else np.allclose(a, b, rtol=1e-5, atol=1e-6)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, given: dict[str, Any]) -> None:
    results = {}
    for module in ("onnxruntime", "linnet"):
        names = dict(given)
        exec(SETUP.format(module=module) + textwrap.dedent(SCRIPTS[name]), names)
        results[module] = names["result"]
    assert same(results["linnet"], results["onnxruntime"]), results


def test_names_that_are_absent_say_why() -> None:
    import linnet

    with pytest.raises(AttributeError, match="sparse tensors are not available"):
        linnet.SparseTensor  # noqa: B018
    assert not hasattr(linnet, "SparseTensor")


def test_a_run_costs_no_more_than_with_onnxruntime() -> None:
    import onnxruntime

    import linnet

    x = np.ones((1, 4), np.float32)
    best = {}
    for module in (onnxruntime, linnet):
        options = module.SessionOptions()
        options.intra_op_num_threads = 1
        session = module.InferenceSession(small_models.relu(), options, providers=["CPUExecutionProvider"])
        times = []
        for _ in range(3000):
            start = time.perf_counter()
            session.run(None, {"x": x})
            times.append(time.perf_counter() - start)
        best[module.__name__] = float(np.percentile(times, 10))
    assert best["linnet"] < 1.5 * best["onnxruntime"], best
