"""Lines that anybody may have written: what is a JSON object is read, the rest is skipped."""

from __future__ import annotations

import pytest

from cvmprof.profiler.run.journal import json_lines


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b'{"name": "a"}\n', [{"name": "a"}]),
        (b'{"name": "a"}', [{"name": "a"}]),
        (b'{"name": "\\ud83d\\ude00 \\udcff"}', [{"name": "\N{GRINNING FACE} \\udcff"}]),
        (b'{"\\ud800": ["\\udfff"]}', [{"\\ud800": ["\\udfff"]}]),
        (b'{"name": "\xed\xa0\x80"}', [{"name": "\N{REPLACEMENT CHARACTER}" * 3}]),
        (b'{"name": "\xe9"}', [{"name": "\N{REPLACEMENT CHARACTER}"}]),
        ('{"name": "é\u2028"}'.encode(), [{"name": "é\u2028"}]),
        ('{"name": "a"}'.encode("utf-16"), []),
        (b'{"name": "a"} {"name": "b"}', []),
        (b'{"name": "to\n{"name": "b"}', [{"name": "b"}]),
        (b"\n\n[1]\n7\nnull\n\0\n", []),
        (b'{"number": ' + b"9" * 10_000 + b"}", []),
        (b'{"nested": ' + b"[" * 100_000, []),
    ],
    ids=range(13),
)
def test_what_is_a_json_object_is_read(raw: bytes, read: list[dict[str, object]]) -> None:
    assert list(json_lines(raw)) == read


@pytest.mark.parametrize("depth", [400, 900, 100_000])
def test_escapes_in_whatever_is_nested_lose_no_other_line(depth: int) -> None:
    nested = b'{"nested": ' + b"[" * depth + b'"\\u0041"' + b"]" * depth + b"}"
    assert list(json_lines(nested + b"\n{}"))[-1] == {}
