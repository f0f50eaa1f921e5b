from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvmprof.reports.escape import as_plotly, as_script_json, visible


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("plain/päth 模型.onnx", "plain/päth 模型.onnx"),
        ("a\nb\tc\x00\x1b[31m", r"a\x0ab\x09c\x00\x1b[31m"),
        ("safe\u202egpj.exe", r"safe\u202egpj.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("line\u2028para\u2029", r"line\u2028para\u2029"),
        (b"not\xffutf8\x80".decode("utf-8", "surrogateescape"), r"not\xffutf8\x80"),
        ("lone\ud800", r"lone\ud800"),
        ("private\ue000 tag\U000e0041", r"private\ue000 tag\U000e0041"),
        ("c1\x9b", r"c1\x9b"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(foreign: str, shown: str) -> None:
    assert visible(foreign) == shown


def test_a_cut_text_keeps_both_ends() -> None:
    assert visible("/cvmfs/a/very/long/path/model.onnx", 16) == "/cvmf…model.onnx"
    assert visible("short", 16) == "short"


def test_plotly_finds_no_markup() -> None:
    text = as_plotly("<b>x</b> %{y} $\\alpha$ &lt; <a href='javascript:1'>")
    assert not set("<>{}$\\%") & set(text)
    assert text.startswith("&#60;b&#62;x&#60;/b&#62; &#37;&#123;y&#125; ")


@given(st.text())
def test_json_cannot_leave_its_script(text: str) -> None:
    written = as_script_json({"path": text, "end": "</script><!--"})
    assert not set("<>&") & set(written)
    assert written.isascii()
    assert json.loads(written) == {"path": text, "end": "</script><!--"}
