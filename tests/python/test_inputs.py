"""Arrays of every kind as inputs and as memory for outputs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet
import small_models


def session(data: bytes) -> linnet.InferenceSession:
    return linnet.InferenceSession(data)


@pytest.fixture(scope="module")
def relu() -> linnet.InferenceSession:
    return session(small_models.relu(("n", "m")))


BASE = np.arange(-24, 24, dtype=np.float32).reshape(6, 8)


def unaligned() -> Any:
    memory = np.zeros(BASE.nbytes + 1, np.uint8)
    array = memory[1:].view(np.float32).reshape(BASE.shape)
    array[:] = BASE
    assert not array.flags.aligned
    return array


def read_only() -> Any:
    array = BASE.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        BASE,
        np.asfortranarray(BASE),
        BASE.T,
        BASE[::2, 1::3],
        BASE[:, ::-1],
        np.broadcast_to(BASE[:1], (5, 8)),
        BASE.astype(">f4"),
        BASE.astype("<f4"),
        unaligned(),
        read_only(),
        BASE[:0],
        BASE[:, :0],
        BASE[:1, :1],
        BASE.view(np.recarray),
        np.ma.masked_array(BASE),
        BASE.tolist(),
        tuple(map(tuple, BASE.tolist())),
        [[1, 2], [-3, 4]],
    ],
    ids=[
        "plain", "fortran", "transposed", "strided", "reversed", "broadcast", "big-endian", "little-endian",
        "unaligned", "read-only", "no-rows", "no-columns", "one", "recarray", "masked", "list", "tuple", "integers",
    ],
)  # fmt: skip
def test_any_array(relu: linnet.InferenceSession, array: Any) -> None:
    before = np.array(array, np.float32)
    (y,) = relu.run(None, {"x": array})
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, np.maximum(before, 0))
    np.testing.assert_array_equal(np.array(array, np.float32), before)


def test_outputs_are_the_callers_own(relu: linnet.InferenceSession) -> None:
    (y,) = relu.run(None, {"x": BASE})
    kept = y.copy()
    assert y.flags.writeable and y.flags.c_contiguous
    (other,) = relu.run(None, {"x": -BASE})
    np.testing.assert_array_equal(y, kept)
    assert not np.shares_memory(y, other)
    y[:] = 0  # harms nobody
    np.testing.assert_array_equal(relu.run(None, {"x": BASE})[0], kept)


def test_identity_gives_memory_of_its_own() -> None:
    x = BASE.copy()
    (y,) = session(small_models.identity(TensorProto.FLOAT, ["a", "b"])).run(None, {"x": x})
    assert not np.shares_memory(x, y)
    x[:] = 0
    np.testing.assert_array_equal(y, BASE)


def test_outputs_outlive_the_session() -> None:
    made = session(small_models.relu())
    (y,) = made.run(None, {"x": np.ones((3, 4), np.float32)})
    del made
    assert y.sum() == 12


NUMPY_TYPES = [
    (TensorProto.FLOAT, "float32"), (TensorProto.DOUBLE, "float64"), (TensorProto.FLOAT16, "float16"),
    (TensorProto.INT8, "int8"), (TensorProto.UINT8, "uint8"), (TensorProto.INT16, "int16"),
    (TensorProto.UINT16, "uint16"), (TensorProto.INT32, "int32"), (TensorProto.UINT32, "uint32"),
    (TensorProto.INT64, "int64"), (TensorProto.UINT64, "uint64"), (TensorProto.BOOL, "bool"),
    (TensorProto.COMPLEX64, "complex64"), (TensorProto.COMPLEX128, "complex128"),
]  # fmt: skip
NARROW_TYPES = [
    (TensorProto.BFLOAT16, "bfloat16"), (TensorProto.FLOAT8E4M3FN, "float8_e4m3fn"),
    (TensorProto.FLOAT8E4M3FNUZ, "float8_e4m3fnuz"), (TensorProto.FLOAT8E5M2, "float8_e5m2"),
    (TensorProto.FLOAT8E5M2FNUZ, "float8_e5m2fnuz"), (TensorProto.INT4, "int4"), (TensorProto.UINT4, "uint4"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "name"), NUMPY_TYPES + NARROW_TYPES)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_every_element_type(number: int, name: str, shape: tuple[int, ...]) -> None:
    if (number, name) in NARROW_TYPES:
        dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name))
    else:
        dtype = np.dtype(name)
    x = (np.arange(int(np.prod(shape))).reshape(shape) % 2).astype(dtype)
    made = session(small_models.identity(number, [f"d{i}" for i in range(len(shape))]))
    (y,) = made.run(None, {"x": x})
    assert y.dtype == dtype and y.shape == shape
    np.testing.assert_array_equal(y.view(np.uint8) if shape else y, x.view(np.uint8) if shape else x)


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a", "bc"], ["", "ü€"]], dtype=object),
        np.array([["a", "bc"], ["", "ü€"]]),
        np.array([[b"a", b"bc"], [b"", "ü€".encode()]]),
        [["a", "bc"], ["", "ü€"]],
    ],
    ids=["objects", "U", "S", "list"],
)
def test_strings(array: Any) -> None:
    (y,) = session(small_models.identity(TensorProto.STRING, ["a", "b"])).run(None, {"x": array})
    assert y.dtype == object and y.tolist() == [["a", "bc"], ["", "ü€"]]


def test_objects_that_are_no_strings_become_what_they_say() -> None:
    (y,) = session(small_models.identity(TensorProto.STRING, ["a"])).run(None, {"x": np.array(["a", 3], dtype=object)})
    assert y.tolist() == ["a", "3"]


@pytest.mark.parametrize(
    ("element_type", "given", "said"),
    [
        (TensorProto.FLOAT, np.ones(3), "float64"),
        (TensorProto.FLOAT, np.ones(3, np.int64), "int64"),
        (TensorProto.FLOAT, np.ones(3, np.float16), "float16"),
        (TensorProto.INT64, np.ones(3, np.int32), "int32"),
        (TensorProto.INT64, [1.5, 2.5, 3.5], "float64"),
        (TensorProto.BOOL, np.ones(3, np.uint8), "uint8"),
        (TensorProto.FLOAT, ["a", "b", "c"], "str"),
        (TensorProto.FLOAT, np.array(["2020-01-01"] * 3, "datetime64[D]"), "datetime64"),
        (TensorProto.FLOAT, np.array([{}, {}, {}], dtype=object), "objects"),
        (TensorProto.UINT8, [1, 2, 300], "300"),
    ],
)
def test_nothing_is_cast_silently(element_type: int, given: Any, said: str) -> None:
    made = session(small_models.identity(element_type, ["n"]))
    with pytest.raises(linnet.InvalidArgument, match=said) as info:
        made.run(None, {"x": given})
    assert "'x'" in str(info.value)


def test_scalars() -> None:
    made = session(small_models.identity(TensorProto.FLOAT, []))
    for given in (np.float32(2.5), 2.5, np.array(2.5, np.float32)):
        (y,) = made.run(None, {"x": given})
        assert y.shape == () and y == 2.5
    with pytest.raises(linnet.InvalidArgument, match="float64"):
        made.run(None, {"x": np.float64(2.5)})


def test_sequences() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kind = helper.make_sequence_type_proto(tensor)
    made = session(small_models.model([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind}))
    items = [np.ones((2, 2), np.float32), np.asfortranarray(BASE), np.zeros((0,), np.float32)]
    (y,) = made.run(None, {"x": items})
    assert [v.shape for v in y] == [(2, 2), (6, 8), (0,)]
    np.testing.assert_array_equal(y[1], BASE)
    assert made.run(None, {"x": []}) == [[]]
    with pytest.raises(linnet.InvalidArgument, match="'x'"):
        made.run(None, {"x": BASE})


def test_an_optional_may_be_none() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"]))
    made = session(
        small_models.model(
            [helper.make_node("OptionalHasElement", ["x"], ["y"])], {"x": kind}, {"y": (TensorProto.BOOL, [])}
        )
    )
    assert not made.run(None, {"x": None})[0]
    assert made.run(None, {"x": np.ones(2, np.float32)})[0]
    with pytest.raises(linnet.InvalidArgument, match="'x'"):
        session(small_models.relu()).run(None, {"x": None})


def test_feeds_may_be_any_mapping(relu: linnet.InferenceSession) -> None:
    import types

    (y,) = relu.run(None, types.MappingProxyType({"x": BASE}))
    np.testing.assert_array_equal(y, np.maximum(BASE, 0))


def test_results_are_written_in_place() -> None:
    made = session(small_models.small_cnn())
    x = np.ones((2, 1, 8, 16), np.float32)
    (expected,) = made.run(None, {"x": x})
    memory = np.full((2, 10), np.nan, np.float32)
    binding = made.io_binding()
    binding.bind_cpu_input("x", x)
    value = linnet.OrtValue.ortvalue_from_numpy(memory)
    binding.bind_ortvalue_output("y", value)
    made.run_with_iobinding(binding)
    np.testing.assert_array_equal(memory, expected)
    assert binding.get_outputs()[0].numpy() is memory
    x *= 2  # an input is read at each run
    made.run_with_iobinding(binding)
    np.testing.assert_array_equal(memory, made.run(None, {"x": x})[0])


@pytest.mark.parametrize("bound", [["sum"], ["product"], ["sum", "product"], ["product", "sum"], []])
def test_some_outputs_have_a_destination(bound: list[str]) -> None:
    made = session(small_models.two_outputs())
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 3, np.float32)
    expected = {"sum": a + b, "product": a * b}
    memory = {name: np.zeros((2, 3), np.float32) for name in bound}
    binding = made.io_binding()
    binding.bind_cpu_input("a", a)
    binding.bind_cpu_input("b", b)
    for name in ("sum", "product"):
        if name in bound:
            binding.bind_output(name, "cpu", 0, np.float32, [2, 3], memory[name].ctypes.data)
        else:
            binding.bind_output(name)
    made.run_with_iobinding(binding)
    for name, result in zip(("sum", "product"), binding.copy_outputs_to_cpu(), strict=True):
        np.testing.assert_array_equal(result, expected[name])
        if name in bound:
            np.testing.assert_array_equal(memory[name], expected[name])


@pytest.mark.parametrize(
    "memory",
    [
        np.zeros((2, 4), np.float32),
        np.zeros((2, 3), np.float64),
        np.zeros((3, 2), np.float32).T,
        np.zeros((2, 3), ">f4"),
        np.broadcast_to(np.zeros(3, np.float32), (2, 3)),
    ],
    ids=["shape", "dtype", "strides", "byte order", "read-only"],
)
def test_memory_that_does_not_fit(memory: Any) -> None:
    made = session(small_models.two_outputs())
    binding = made.io_binding()
    for name in "ab":
        binding.bind_cpu_input(name, np.ones((2, 3), np.float32))
    binding._outputs["sum"] = memory
    with pytest.raises(linnet.InvalidArgument, match="sum"):
        made.run_with_iobinding(binding)


def test_a_constant_output() -> None:
    data = small_models.model(
        [helper.make_node("Identity", ["c"], ["y"])], {}, {"y": (TensorProto.FLOAT, [3])}, {"c": np.ones(3, np.float32)}
    )
    made = session(data)
    (y,) = made.run(None, {})
    y[:] = 5
    np.testing.assert_array_equal(made.run(None, {})[0], [1, 1, 1])


def test_load_converts_what_has_no_type() -> None:
    model = linnet.load(small_models.two_outputs())
    total, product = model([[1, 2, 3]], b=[[4, 5, 6]])
    assert total.tolist() == [[5, 7, 9]] and product.tolist() == [[4, 10, 18]]
    with pytest.raises(linnet.InvalidArgument, match="given twice"):
        model([[1, 2, 3]], a=[[1, 2, 3]])
    with pytest.raises(linnet.InvalidArgument, match="takes 2"):
        model(1, 2, 3)
    assert "product: tensor(float)" in repr(model)


def test_narrow_types_without_ml_dtypes_say_what_to_install() -> None:
    pytest.importorskip("ml_dtypes")
    script = textwrap.dedent(
        """
        import sys
        sys.modules["ml_dtypes"] = None
        import numpy as np, linnet
        session = linnet.InferenceSession(bytes.fromhex(sys.argv[1]))
        try:
            session.run(None, {"x": np.ones(2, np.float32)})
        except linnet.InvalidArgument as error:
            print(error)
        """
    )
    data = small_models.model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)],
        {"x": (TensorProto.FLOAT, ["n"])},
        {"y": (TensorProto.BFLOAT16, ["n"])},
    )
    done = subprocess.run([sys.executable, "-c", script, data.hex()], capture_output=True, text=True, timeout=60)
    assert "pip install ml_dtypes" in done.stdout, done.stderr


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_a_bool_may_be_any_byte(count: int) -> None:
    flip = helper.make_graph(
        [helper.make_node("Not", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.BOOL, [count])],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, [count])],
    )
    runner = session(helper.make_model(flip, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())
    for place in {0, count // 2, count - 1}:
        bytes_ = np.zeros(count + 1, np.uint8)[1:]  # at an odd address
        bytes_[place] = 6
        (y,) = runner.run(None, {"x": bytes_.view(np.bool_)})
        assert np.flatnonzero(y.view(np.uint8) != 1).tolist() == [place]
        assert y.view(np.uint8)[place] == 0
