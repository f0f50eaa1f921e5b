"""Whatever a template prints is made visible and escaped."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

from cvmprof.reports.escape import visible
from cvmprof.reports.page.templating import environment


def shown(text: str, template: str = "{{ text }}") -> str:
    return environment().from_string(template).render(text=text)


def test_html_is_text() -> None:
    assert shown("<img src=x onerror='alert(1)'>&\"") == (
        "&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&amp;&#34;"
    )


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text())
def test_any_text_comes_back_from_html_as_its_visible_self(text: str) -> None:
    parser = _Collector()
    parser.feed(f"<p>{shown(text)}</p>")
    parser.close()
    assert parser.tags == ["p"]
    assert parser.text == visible(text)


def test_what_is_hidden_is_spelt_out_and_a_filter_cuts() -> None:
    assert shown("a\u202eb") == r"a\u202eb"
    assert shown("<" + 9 * "x" + ">", "{{ text | cut(5) }}") == "&lt;…xx&gt;"


def test_our_own_markup_stays_as_it_is() -> None:
    assert shown(Markup("<b>\n</b>")) == "<b>\n</b>"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        shown("", "{{ another }}")
