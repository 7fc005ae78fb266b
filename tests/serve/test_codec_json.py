"""JSON itself: numbers rounded correctly both ways, text, structure, depth, against Python's reader."""

from __future__ import annotations

import json
import math
import random
import struct
from typing import Any

import numpy as np
import pytest

from codec_messages import INVALID_ARGUMENT, refused
from linnet._core import testing


def read(text: str | bytes, dtype: str = "float64") -> Any:
    """What a list of elements of that type comes to."""
    body = b'{"inputs": ' + (text.encode() if isinstance(text, str) else text) + b"}"
    return testing.decode("rest_v1", body, ports=[("x", dtype)])["inputs"][0][1]


def written(array: Any) -> str:
    body, _ = testing.answer("rest_v1", b'{"inputs": [0]}', [("y", array)], ports=[("x", "int32")])
    return body.decode()[len('{"outputs":') : -1]


def bits(value: float, form: str) -> bytes:
    return struct.pack(form, value)


HARD = """
0 -0 0.0 -0.0e5 1 -1 0.1 1e22 1e23 123456789012345678901234567890 4.9e-324 2e-324 2.4703282292062327208e-324
2.2250738585072014e-308 2.2250738585072011e-308 1.7976931348623157e308 9007199254740993 8.41e-322 1e-400 -1e-400
9007199254740993.0000000000000000000000000001 0.500000000000000166533453693773481063544750213 1E+5 1.5e-007
0.000000000000000000000000000000000000000000000000001e60 100000000000000016777215 100000000000000016777216
7.3177701707893310e+15 0e999999999999 3.14159e0000
"""
LONG = ["179769313486231580793728971405301" + "0" * 276, "0." + "0" * 400 + "1e402", "1" + "0" * 400 + "e-400"]


def test_doubles_are_the_nearest() -> None:
    for text in [*HARD.split(), *LONG]:
        assert bits(float(read(f"[{text}]")[0]), "d") == bits(float(text), "d"), text
    chance = random.Random(1)
    texts = []
    for _ in range(20000):
        digits = "".join(chance.choices("0123456789", k=chance.randint(1, 25))).lstrip("0") or "0"
        point = chance.randint(1, len(digits))
        fraction = digits[point:]
        exponent = chance.choice(["", f"e{chance.randint(-330, 290)}", f"E+{chance.randint(0, 20)}"])
        texts.append(chance.choice(["", "-"]) + digits[:point] + (f".{fraction}" if fraction else "") + exponent)
    texts = [t for t in texts if math.isfinite(float(t))]
    assert read(f"[{','.join(texts)}]").tobytes() == np.array([float(t) for t in texts]).tobytes()


def test_floats_are_the_nearest_even_where_doubles_round_to_a_tie() -> None:
    for text, expected in [
        ("1.00000005960464477539062500001", np.nextafter(np.float32(1), np.float32(2))),
        ("1.00000005960464477539062500000", np.float32(1)),
        ("1.00000005960464477539062499999", np.float32(1)),
        ("7.006492321624085e-46", np.float32(0)),
        ("7.0064923216240853547e-46", np.float32(1.4e-45)),
        ("1.4e-45", np.float32(1.4e-45)),
        ("3.4028235677973366163753939545814e38", np.float32(3.4028235e38)),
        ("1e-50", np.float32(0)),
        ("16777217", np.float32(16777216)),
    ]:
        assert read(f"[{text}]", "float32")[0] == expected, text
    refused(
        INVALID_ARGUMENT,
        "3.4028235677973366163753939545815e38 is no float32",
        "rest_v1",
        b'{"inputs": [3.4028235677973366163753939545815e38]}',
        ports=[("x", "float32")],
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_written_read_back_as_the_same_bits(dtype: Any) -> None:
    rng = np.random.default_rng(2)
    values = np.frombuffer(rng.bytes(20000 * np.dtype(dtype).itemsize), dtype=dtype)
    values = np.concatenate([values[np.isfinite(values)], np.array([0, -0.0, 1, 1e6, 0.1, 1e-45, 3.4e38], dtype)])
    text = written(values)
    assert np.array(json.loads(text), dtype=dtype).tobytes() == values.tobytes()
    assert read(text, np.dtype(dtype).name).tobytes() == values.tobytes()
    assert not any(item.lstrip("-").isdigit() for item in text[1:-1].split(","))  # no float looks like an integer


def test_halves() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert read(written(finite), "float16").tobytes() == finite.tobytes()
    assert read("[65519.99, 65504, 1e-10]", "float16").tolist() == [65504, 65504, 0]
    refused(INVALID_ARGUMENT, "65520 is no float16", "rest_v1", b'{"inputs": [65520]}', ports=[("x", "float16")])


def test_what_is_not_finite() -> None:
    values = read("[NaN, Infinity, -Infinity, 1]")
    assert np.isnan(values[0]) and values[1:].tolist() == [np.inf, -np.inf, 1]
    assert written(np.array([np.nan, np.inf, -np.inf], np.float32)) == "[NaN,Infinity,-Infinity]"
    for text in ("[1e309]", "[-1e400]", "[nan]", "[-NaN]", "[Inf]", "[+1]"):
        with pytest.raises(ValueError):
            read(text)


@pytest.mark.parametrize("dtype", [f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)])
def test_integers_are_exact_up_to_their_limits(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.array([limits.min, 0, limits.max], dtype)
    assert read(written(values), dtype).tolist() == values.tolist()
    assert written(values) == json.dumps(values.tolist()).replace(" ", "")
    for text in (limits.min - 1, limits.max + 1, 10**30, "1.0", "1e2", "true", '"1"', "NaN", "null"):
        with pytest.raises(ValueError):
            read(f"[{text}]", dtype)
    assert read("[-0]", dtype)[0] == 0


def test_bools() -> None:
    assert read("[true, false, 1, 0]", "bool").tolist() == [True, False, True, False]
    assert written(np.array([True, False])) == "[true,false]"
    for text in ("2", "-1", "1.0", '"true"', "tru"):
        with pytest.raises(ValueError):
            read(f"[{text}]", "bool")


def test_text() -> None:
    texts = ["", "plain", 'quote " slash \\ / tab \t', "ü€😀", "\u0000\u001f\u007f\u2028", "\U0010ffff", "a" * 1000]
    for ascii_ in (True, False):
        assert read(json.dumps(texts, ensure_ascii=ascii_), "str").tolist() == [t.encode() for t in texts]
    array = np.array([t.encode() for t in texts], dtype=object)
    assert json.loads(written(array)) == texts
    assert read('["\\/\\b\\f"]', "str")[0] == b"/\b\f"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'["\\ud83d"]', "half of a surrogate pair"),
        (b'["\\ud83d\\u0041"]', "half of a surrogate pair"),
        (b'["\\ude00"]', "second half of a surrogate pair"),
        (b'["\\u12g4"]', "four hexadecimal digits"),
        (b'["\\u12', "the text ends inside"),
        (b'["\\x41"]', "no such escape"),
        (b'["\xff"]', "not UTF-8"),
        (b'["\xc0\x80"]', "not UTF-8"),
        (b'["\xed\xa0\x80"]', "not UTF-8"),
        (b'["\xf4\x90\x80\x80"]', "not UTF-8"),
        (b'["\xe2\x82"]', "not UTF-8"),
        (b'["a\nb"]', "control character"),
        (b'["abc', "the text ends inside a string"),
    ],
)
def test_text_that_is_refused(text: bytes, match: str) -> None:
    refused(INVALID_ARGUMENT, match, "rest_v1", b'{"inputs": ' + text + b"}", ports=[("x", "str")])


STRUCTURE = [
    "", " ", "[]", "{", "}", "{}}", '{"a"}', '{"a":}', '{"a":1,}', "{,}", '{"a":1 "b":2}', "{1:2}", '{"a":[1,]}',
    '{"a":[,1]}', '{"a":[1 2]}', '{"a":[}', '{"a":01}', '{"a":1.}', '{"a":.5}', '{"a":1e}', '{"a":1e+}', '{"a":-}',
    '{"a":+1}', '{"a":0x1}', '{"a":truee}', '{"a":nul}', '{"a":1}x', "{'a':1}", '{"a":"\\"}', '{"a":1}\0', "\ufeff{}",
    '{"a":[1,[2,{"b":[]}]]}', '{"a":{"b":null,"c":[true,false,null]},"d":"e"}', ' {"a" : 1 , "b" : [ ] } \r\n\t',
    '{"":0}', '{"a":{},"b":[{}]}', '{"a":-Infinity}', '{"a":NaN}',
]  # fmt: skip


@pytest.mark.parametrize("text", STRUCTURE)
def test_the_same_is_malformed_as_for_another_reader(text: str) -> None:
    """What is no JSON is refused as such; what is one lacks the inputs."""
    try:
        valid = isinstance(json.loads(text), dict)
    except ValueError:
        valid = False
    refused(INVALID_ARGUMENT, "neither" if valid else "JSON, byte", "rest_v1", text.encode(), ports=[("x", "int8")])


def test_depth() -> None:
    deep = '{"a":' + "[" * 63 + "]" * 63 + "}"
    refused(INVALID_ARGUMENT, "neither", "rest_v1", deep.encode())
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        for count in (64, 100000):
            body = '{"a":' + opening * count + "1" + closing * count + "}"
            refused(INVALID_ARGUMENT, "nested more than 64 deep", "rest_v1", body.encode())
    body = '{"inputs":' + "[" * 33 + "1" + "]" * 33 + "}"
    refused(INVALID_ARGUMENT, "nested more than 32 deep", "rest_v1", body.encode(), ports=[("x", "int8")])
    assert read("[" * 32 + "1" + "]" * 32).ndim == 32
