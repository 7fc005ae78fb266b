"""Text: Tokenizer, TfIdfVectorizer, StringNormalizer and StringSplit agree with onnxruntime or Python."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest

from one_node import check, linnet, ort

TEXTS = np.array(
    ["the red cat's hat", "", "  a-b_c  9 ", "na\u00efve w\u00f6rter \u4f60\u597d", "aab ab b", "\n,;x"], object
)
WORDS = np.array([["a", "b", "a", "c", "b", "a"], ["c", "c", "zz", "a", "b", "b"]], object)


def tokens(x: Any, **attributes: Any) -> Any:
    return linnet("Tokenizer", x, domain="com.microsoft", **attributes)[0]


@pytest.mark.parametrize("mark", [0, 1])
@pytest.mark.parametrize("mincharnum", [1, 2])
def test_tokenizer(mark: int, mincharnum: int) -> None:
    more = {"mark": mark, "mincharnum": mincharnum, "pad_value": "#", "domain": "com.microsoft"}
    ways: list[dict[str, Any]] = [
        {"tokenexp": "[a-zA-Z0-9_]+"},
        {"tokenexp": "a|ab|b"},
        {"tokenexp": "\\bh[a-z]*|^t.."},
        {"tokenexp": "x*"},
        {"separators": [" ", "[-_]"]},
        {"separators": [",|;", "b", " +"]},
    ]
    if mincharnum == 1:
        ways += [{"tokenexp": "."}, {"separators": [""]}]
    for way in ways:
        for x in (TEXTS, TEXTS.reshape(3, 2)):
            got, want = linnet("Tokenizer", x, **more, **way)[0], ort("Tokenizer", x, **more, **way)[0]
            assert got.tolist() == want.tolist(), way


def test_tokens_match_as_early_and_as_long_as_they_can() -> None:
    x = np.array(["xabcabd"], object)
    assert tokens(x, tokenexp="abc|ab|bcabd").tolist() == [["abc", "ab"]]
    assert tokens(x, tokenexp="b.*b|c").tolist() == [["bcab"]]
    long = np.array(["a" * 20000], object)
    assert tokens(long, tokenexp="(a|aa)+").tolist() == [["a" * 20000]]
    with pytest.raises(Exception, match="mincharnum"):
        tokens(x, tokenexp=".", mincharnum=2)
    with pytest.raises(Exception, match="separators nor tokenexp"):
        tokens(x)


GRAMS: dict[str, Any] = {
    "ngram_counts": [0, 3],
    "ngram_indexes": [2, 0, 4, 1, 3],
    "weights": [0.5, 2.0, 3.0, 0.25, 1.5],
}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("skips", [0, 1, 5])
def test_tfidf_vectorizer(mode: str, lengths: tuple[int, int], skips: int) -> None:
    more = GRAMS | {"mode": mode, "min_gram_length": lengths[0], "max_gram_length": lengths[1], "max_skip_count": skips}
    words = {"pool_strings": ["a", "b", "c", "a", "b", "b", "a"]}
    numbers = {"pool_int64s": [1, 2, 3, 1, 2, 2, 1]}
    ints = np.array([[1, 2, 1, 3, 2, 1], [3, 3, 9, 1, 2, 2]])
    for x, pool in ((WORDS, words), (WORDS[0], words), (ints, numbers), (ints.astype(np.int32), numbers)):
        check(linnet("TfIdfVectorizer", x, **more, **pool)[0], ort("TfIdfVectorizer", x, **more, **pool)[0])


def test_hostile_vectorizers_are_refused() -> None:
    good = GRAMS | {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0}
    good["pool_strings"] = ["a", "b", "c", "a", "b", "b", "a"]
    for change, match in [
        ({"mode": "DF"}, "mode"),
        ({"ngram_counts": [0, 9]}, "ngram_counts"),
        ({"ngram_counts": [0, 2]}, "2-grams"),
        ({"ngram_indexes": [0, 1]}, "ngram_indexes"),
        ({"ngram_indexes": [0, 1, 2, 3, -4]}, "ngram_indexes"),
        ({"weights": [1.0]}, "weights"),
        ({"min_gram_length": 3}, "max_gram_length"),
        ({"pool_int64s": [1]}, "one of"),
    ]:
        with pytest.raises(Exception, match=match):
            linnet("TfIdfVectorizer", WORDS, **(good | change))


# Letters that have long been there: later versions of Unicode add cases of few of them.
CODES = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.ucd_3_2_0.category(chr(c)) != "Cn"]
LETTERS = np.array([chr(c) for c in CODES], object)


def normalized(x: Any, **attributes: Any) -> list[str]:
    result: list[str] = linnet("StringNormalizer", x, is_case_sensitive=1, **attributes)[0].tolist()
    return result


@pytest.mark.parametrize("action", ["LOWER", "UPPER"])
def test_every_letter_has_the_case_that_unicode_gives_it(action: str) -> None:
    """One letter for one: what Python makes two of has no expectation here."""
    got = normalized(LETTERS, case_change_action=action)
    assert len(got) == len(LETTERS)
    differ = []
    for letter, mine in zip(LETTERS, got, strict=True):
        due = letter.lower() if action == "LOWER" else letter.upper()
        if len(due) == 1 and mine != due and unicodedata.ucd_3_2_0.category(due) != "Cn":
            differ.append((letter, mine, due))
    assert differ == []
    assert sum(a != b for a, b in zip(LETTERS, got, strict=True)) > 700


@pytest.mark.parametrize("action", ["LOWER", "UPPER", "NONE"])
def test_normalizer(action: str) -> None:
    x = np.array(["\u01af\u01a0NG", "stra\u00dfe", "\u0130stanbul", "\u01c5", "\U00010400", "", "\u65e5"], object)
    got = linnet("StringNormalizer", x, case_change_action=action, is_case_sensitive=1)[0]
    want = ort("StringNormalizer", x, case_change_action=action, is_case_sensitive=1, locale="")[0]
    assert got.tolist() == want.tolist()
    kept = linnet("StringNormalizer", x, stopwords=["\u01b0\u01a1ng"], is_case_sensitive=0)[0]
    assert kept.tolist() == x[1:].tolist()


def test_split_at_white_space() -> None:
    spaces = [chr(c) for c in CODES if chr(c).isspace()]
    texts = [f"{a}\u00e9{b}{a}z{a}" for a in spaces for b in ("", "-", "\u200b", "\u3000")] + [
        "",
        "a",
        "\u65e5 b  c d ",
    ]
    for most in (None, 0, 1, 2):
        attributes = {} if most is None else {"maxsplit": most}
        parts, counts = linnet("StringSplit", np.array(texts, object), outputs=2, **attributes)
        for text, row, count in zip(texts, parts, counts, strict=True):
            due = text.split(None, -1 if most is None else most)
            due = [part.rstrip() for part in due]  # what is left of a text that was not split to its end
            assert row.tolist()[:count] == due, (text, most)
            assert not any(row[count:])
