"""If, Loop, Scan and SequenceMap; sequences, optionals and text."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from linnet import _core

HEADER = '<ir_version: 9, opset_import: ["" : {opset}]>\n'


def session_of(text: str, opset: int = 21, threads: int = 1) -> Any:
    model = parser.parse_model(HEADER.format(opset=opset) + text)
    options = _core.SessionOptions()
    options.threads = threads
    return _core.Session.from_bytes(model.SerializeToString(), options)


def run(text: str, opset: int = 21, **feeds: Any) -> Any:
    session = session_of(text, opset)
    first = session.run(feeds)
    again = session.run(feeds)
    assert [np.asarray(a).tolist() if not isinstance(a, list) else len(a) for a in first] == [
        np.asarray(a).tolist() if not isinstance(a, list) else len(a) for a in again
    ]
    return first[0] if len(first) == 1 else first


# ---- If --------------------------------------------------------------------------------------------------------------
BRANCHES = """g (bool c, float[n] x) => (float[m] y) {
    y = If (c) <then_branch = yes () => (float[k] a) { a = Add (x, x) },
                else_branch = no () => (float[k] b) { s = Constant <value = int64[1] {2}> () e = Shape (x)
                                                    z = Constant <value = int64[1] {0}> () b = Slice (x, z, s) }>
}"""


def test_if_takes_one_branch() -> None:
    x = np.arange(5, dtype=np.float32)
    assert run(BRANCHES, c=np.array(True), x=x).tolist() == [0, 2, 4, 6, 8]
    assert run(BRANCHES, c=np.array(False), x=x).tolist() == [0, 1]


def test_if_with_a_known_condition_is_inlined() -> None:
    text = BRANCHES.replace("bool c, ", "").replace(
        "{\n    y = If", "{\n    c = Constant <value = bool {1}> ()\n    y = If"
    )
    session = session_of(text)
    assert session.run({"x": np.ones(2, np.float32)})[0].tolist() == [2, 2]
    assert " = If" not in session.dump("simplify")


def test_if_refuses_two_conditions() -> None:
    with pytest.raises(Exception, match="condition"):
        run(BRANCHES.replace("bool c", "bool[k] c"), c=np.array([True, False]), x=np.ones(2, np.float32))


# ---- Loop ------------------------------------------------------------------------------------------------------------
LOOP = """g (int64 m, bool c, float[k] x) => (float[k] y, float[n, k] steps) {
    y, steps = Loop (m, c, x) <body = b (int64 i, bool go, float[k] s) => (bool on, float[k] t, float[k] kept) {
        f = Cast <to = 1> (i)  t = Add (s, f)  kept = Identity (t)
        top = ReduceMax <keepdims = 0> (t)  limit = Constant <value = float {10.0}> ()  on = Less (top, limit)
    }>
}"""


@pytest.mark.parametrize("trips,cond", [(0, True), (3, True), (3, False), (100, True)])
def test_loop_counts_and_conditions(trips: int, cond: bool) -> None:
    x = np.array([0, 1], np.float32)
    state, kept, go = x, [], cond
    for i in range(trips):
        if not go:
            break
        state = state + i
        kept.append(state)
        go = state.max() < 10
    y, steps = run(LOOP, m=np.array(trips), c=np.array(cond), x=x)
    assert y.tolist() == state.tolist()
    assert steps.dtype == np.float32 and steps.tolist() == [k.tolist() for k in kept]


def test_loop_of_no_round_keeps_the_element_shape() -> None:
    text = LOOP.replace("float[k]", "float[2]").replace("float[n, k]", "float[n, 2]")
    assert run(text, m=np.array(0), c=np.array(True), x=np.zeros(2, np.float32))[1].shape == (0, 2)


def test_loop_whose_state_grows() -> None:
    text = """g (int64 m, float[k] x) => (float[n] y) {
        y = Loop (m, , x) <body = b (int64 i, bool go, float[q] s) => (bool go, float[r] t) {
            t = Concat <axis = 0> (s, x) }>
    }"""
    assert run(text, m=np.array(3), x=np.array([1, 2], np.float32)).tolist() == [1, 2] * 4


def test_loops_nest_and_capture() -> None:
    text = """g (int64 m, int64 x) => (int64 y) {
        zero = Constant <value = int64 {0}> ()
        y = Loop (m, , zero) <body = outer (int64 i, bool go, int64 s) => (bool go, int64 t) {
            t = Loop (i, , s) <body = inner (int64 j, bool on, int64 u) => (bool on, int64 w) {
                p = Mul (i, x)  q = Add (p, j)  w = Add (u, q) }>
        }>
    }"""
    want = sum(i * 7 + j for i in range(6) for j in range(i))
    assert run(text, m=np.array(6), x=np.array(7)) == want


def test_loop_over_a_sequence() -> None:
    text = """g (int64 m) => (float[n] y, int64 count) {
        empty = SequenceEmpty ()
        s = Loop (m, , empty) <body = b (int64 i, bool go, seq(float[k]) held) => (bool go, seq(float[k]) more) {
            shape = Constant <value = int64[1] {-1}> ()  one = Reshape (i, shape)  f = Cast <to = 1> (one)
            more = SequenceInsert (held, f) }>
        count = SequenceLength (s)
        y = ConcatFromSequence <axis = 0> (s)
    }"""
    y, count = run(text, m=np.array(4))
    assert y.tolist() == [0, 1, 2, 3] and count == 4
    with pytest.raises(Exception, match="empty sequence"):
        run(text, m=np.array(0))


# ---- Scan ------------------------------------------------------------------------------------------------------------
def scan_model(
    opset: int, attributes: dict[str, Any], state: list[int], scanned: list[int], lengths: bool = False
) -> Any:
    """Running sums: body (state, x) -> (state + x, state + x)."""

    def info(name: str, shape: Any = None) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    body = helper.make_graph(
        [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Identity", ["t"], ["k"])],
        "b",
        [info("s"), info("x")],
        [info("t"), info("k")],
    )
    names = (["n"] if lengths else [""] if opset < 9 else []) + ["a", "v"]
    node = helper.make_node("Scan", names, ["y", "all"], body=body, num_scan_inputs=1, **attributes)
    given = [info("a", state), info("v", scanned)]
    if lengths:
        given.append(helper.make_tensor_value_info("n", TensorProto.INT64, [state[0]]))
    graph = helper.make_graph([node], "g", given, [info("y"), info("all")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("out_axis,out_backwards", [(0, 0), (1, 1), (-1, 0)])
def test_scan(axis: int, backwards: int, out_axis: int, out_backwards: int) -> None:
    v = np.random.default_rng(0).integers(0, 9, (4, 5)).astype(np.float32)
    rows = np.moveaxis(v, axis, 0)
    start = np.ones(rows.shape[1], np.float32)
    sums = start + np.cumsum(rows[::-1] if backwards else rows, 0)
    session = scan_model(
        16,
        {
            "scan_input_axes": [axis],
            "scan_input_directions": [backwards],
            "scan_output_axes": [out_axis],
            "scan_output_directions": [out_backwards],
        },
        list(start.shape),
        list(v.shape),
    )
    y, every = session.run({"a": start, "v": v})
    assert y.tolist() == sums[-1].tolist()
    assert every.tolist() == np.moveaxis(sums[::-1] if out_backwards else sums, 0, out_axis).tolist()


def test_scan_of_batches() -> None:
    v = np.random.default_rng(1).integers(0, 9, (3, 4, 2)).astype(np.float32)
    start, lengths = np.zeros((3, 2), np.float32), np.array([4, 0, 2])
    session = scan_model(8, {}, [3, 2], [3, 4, 2], lengths=True)
    y, every = session.run({"a": start, "v": v, "n": lengths})
    for b, n in enumerate(lengths):
        sums = np.cumsum(v[b, :n], 0)
        assert y[b].tolist() == (sums[-1].tolist() if n else [0, 0])
        assert every[b, :n].tolist() == sums.tolist() and not every[b, n:].any()
    with pytest.raises(Exception, match="length 5"):
        session.run({"a": start, "v": v, "n": np.array([5, 0, 0])})


def test_scan_of_nothing() -> None:
    y, every = scan_model(16, {}, [2], [0, 2]).run({"a": np.ones(2, np.float32), "v": np.zeros((0, 2), np.float32)})
    assert y.tolist() == [1, 1] and every.shape[0] == 0


# ---- sequences and optionals -----------------------------------------------------------------------------------------
def test_sequences() -> None:
    text = """g (float[n] x, float[k] y, int64 at) => (float[q] item, int64 count, seq(float[w]) rest) {
        s = SequenceConstruct (x, y, x)  zero = Constant <value = int64 {0}> ()
        t = SequenceInsert (s, y, zero)  rest = SequenceErase (t, at)
        item = SequenceAt (t, at)  count = SequenceLength (rest)
    }"""
    x, y = np.arange(2, dtype=np.float32), np.arange(3, dtype=np.float32)
    for at in range(-4, 4):
        items = [y, x, y, x]
        item, count, rest = run(text, x=x, y=y, at=np.array(at))
        assert item.tolist() == items[at].tolist() and count == 3
        del items[at]
        assert [r.tolist() for r in rest] == [i.tolist() for i in items]
    with pytest.raises(Exception, match=r"position 4 is outside \[-4, 3\]"):
        run(text, x=x, y=y, at=np.array(4))


@pytest.mark.parametrize(
    "split,keep,want",
    [(None, 1, [(1, 2)] * 5), (None, 0, [(2,)] * 5), (2, 1, [(2, 2), (2, 2), (1, 2)]), ([0, 5], 1, [(0, 2), (5, 2)])],
)
def test_split_to_sequence(split: Any, keep: int, want: Any) -> None:
    given = {} if split is None else {"s": np.array(split)}
    kind = "" if split is None else f", int64{'' if np.ndim(split) == 0 else '[k]'} s"
    text = (
        f"g (float[5, 2] x{kind}) => (seq(float[n]) y) {{ y = SplitToSequence <axis = 0, keepdims = {keep}> "
        f"(x{', s' if given else ''}) }}"
    )
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    parts = run(text, x=x, **given)
    assert [p.shape for p in parts] == want
    assert np.concatenate([p.ravel() for p in parts]).tolist() == x.ravel().tolist()


def test_sequence_map() -> None:
    text = """g (float[n] x, float[k] y, float bias) => (seq(float[m]) out) {
        s = SequenceConstruct (x, y)
        out = SequenceMap (s, bias) <body = b (float[q] v, float c) => (float[q] w) { w = Add (v, c) }>
    }"""
    out = run(text, x=np.zeros(2, np.float32), y=np.ones(3, np.float32), bias=np.array(5, np.float32))
    assert [o.tolist() for o in out] == [[5, 5], [6, 6, 6]]


def test_optionals() -> None:
    text = """g (float[n] x) => (bool has, float[m] y) {
        o = Optional (x)  has = OptionalHasElement (o)  y = OptionalGetElement (o)
    }"""
    has, y = run(text, x=np.ones(2, np.float32))
    assert has and y.tolist() == [1, 1]
    assert not run("g () => (bool has) { has = OptionalHasElement () }", opset=18)


# ---- text ------------------------------------------------------------------------------------------------------------
def words(*items: str) -> Any:
    return np.array(items, dtype=object)


PATTERNS = [
    r"a*b+c?",
    r"[a-c]+|x{2,3}",
    r"(ab|cd)*",
    r"\d{3}-\d+",
    r"[^0-9\s]+",
    r"(?i)straße",
    r".*\.(com|org)",
    r"^ab$",
    r"\w+@\w+",
    r"(a|b)*abb",
    r"x{,2}",
    r"a{0}",
    r"\x41\x{42}",
    r"[[:upper:]]+",
    r"\bab\b c",
    r"(?s)a.b",
    r"a.b",
    r"[]a-]+",
    r"",
    r"é.",
    r"(?:a(?:b(?:c)?)?)?",
    r"(a{2}){3}",
]
TEXTS = [
    "",
    "a",
    "ab",
    "abc",
    "aabbc",
    "b",
    "bc",
    "xx",
    "xxx",
    "xxxx",
    "abcd",
    "cdab",
    "123-4567",
    "12-3",
    "hello",
    "he llo",
    "STRASSE",
    "Straße",
    "STRAßE",
    "example.com",
    "example.net",
    "a@b",
    "abb",
    "aababb",
    "AB",
    "ABC",
    "ab c",
    "a\nb",
    "a-b",
    "]-a",
    "éa",
    "x{,2}",
    "aaaaaa",
    "aaaa",
    "é",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_regular_expressions_as_python(pattern: str) -> None:
    own = pattern.replace("[[:upper:]]", "[A-Z]").replace(r"\x{42}", "B")
    if own == "x{,2}":  # text in RE2, a repetition in Python
        own = re.escape(own)
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())
    got = session.run({"x": words(*TEXTS)})[0].tolist()
    flags = re.ASCII if "(?i)" not in own else re.RegexFlag(0)
    assert got == [re.fullmatch(own, t, flags) is not None for t in TEXTS]


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "a)",
        "*",
        "[a",
        "a**",
        "[b-a]",
        r"\1",
        r"\q",
        "a{2,1}",
        "a{1001}",
        "((((a{999}){999}){999}){999})",
        "(((((){999}){999}){999}){999})",
        "(" * 5000,
        r"\p{Greek}",
        "\\",
        "(?x)a",
    ],
)
def test_bad_patterns_are_refused(pattern: str) -> None:
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with pytest.raises(Exception, match="pattern"):
        _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())


def test_a_pattern_that_backtracks_elsewhere_is_quick() -> None:
    text = 'g (string[n] x) => (bool[n] y) { y = RegexFullMatch <pattern = "(a*)*(a|aa)*b"> (x) }'
    assert run(text, opset=20, x=words("a" * 20000, "a" * 20000 + "b")).tolist() == [False, True]


def test_strings() -> None:
    text = "g (string[2, 1] a, string[3] b) => (string[p, q] y) { y = StringConcat (a, b) }"
    got = run(text, opset=20, a=words("x", "y").reshape(2, 1), b=words("1", "2", "3"))
    assert got.tolist() == [["x1", "x2", "x3"], ["y1", "y2", "y3"]]
    for delimiter, most, want in [
        ("", None, [["a", "b", ""], ["c,d", "e", "f"], ["", "", ""]]),
        (",", None, [[" a  b ", ""], ["c", "d e f"], ["", ""]]),
        ("", 1, [["a", "b"], ["c,d", "e f"], ["", ""]]),
    ]:
        more = "" if most is None else f", maxsplit = {most}"
        node = f'StringSplit <delimiter = "{delimiter}"{more}> (x)'
        text = f"g (string[3] x) => (string[3, k] y, int64[3] n) {{ y, n = {node} }}"
        y, n = run(text, opset=20, x=words(" a  b ", "c,d e f", ""))
        assert y.tolist() == want
        assert n.tolist() == ([1, 2, 1] if delimiter else [sum(map(bool, row)) for row in want])
    text = (
        'g (string[n] x) => (string[m] y) { y = StringNormalizer <case_change_action = "UPPER", stopwords = ["the"], '
        "is_case_sensitive = 0> (x) }"
    )
    assert run(text, x=words("The", "quick", "Привет", "çà")).tolist() == ["QUICK", "ПРИВЕТ", "ÇÀ"]
    assert run(text, x=words("the", "THE")).tolist() == [""]


def test_a_body_whose_inputs_have_no_type() -> None:
    """The types of a body's inputs are those of what it is given."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["s", "w"], ["t"]), helper.make_node("Identity", ["go"], ["on"])],
        "b",
        [onnx.ValueInfoProto(name=name) for name in ("i", "go", "s")],
        [onnx.ValueInfoProto(name=name) for name in ("on", "t")],
    )
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)],
        "g",
        [info("m", TensorProto.INT64, []), info("x", TensorProto.FLOAT, [2, 2]), info("w", TensorProto.FLOAT, [2, 2])],
        [info("y", TensorProto.FLOAT, [2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())
    w = np.array([[0, 1], [1, 1]], np.float32)
    got = session.run({"m": np.array(5), "x": np.eye(2, dtype=np.float32), "w": w})[0]
    assert got.tolist() == np.linalg.matrix_power(w, 5).tolist()
