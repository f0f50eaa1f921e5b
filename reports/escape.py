"""Foreign text, made safe and visible.

Paths, arguments, symbols and thread names come from the traced system and count as hostile. All of
it passes through ``visible`` and is then escaped for the place where it goes:
HTML by the templates of the page, the rest by ``as_plotly`` and ``as_script_json``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

#: control characters; characters without width or that change the direction of text; line and
#: paragraph separators; lone surrogates (bytes that were not UTF-8, decoded with surrogateescape)
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})
_ELLIPSIS = "…"
#: what Plotly reads as markup in any text: pseudo-HTML, entities, %{…} and MathJax's $…$
_PLOTLY_MARKUP = re.compile(r"[&<>%{}$\\]")


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return character
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str, limit: int | None = None) -> str:
    r"""Return ``text`` with everything invisible spelt out, cut in the middle to ``limit``.

    Control, bidirectional, unassigned and zero-width characters become backslash escapes, bytes
    that were not UTF-8 become ``\\xNN``. The beginning and the end of a cut text are kept.
    """
    shown = "".join(map(_shown, text))
    if limit is None or len(shown) <= limit:
        return shown
    head = (limit - 1) // 3
    return shown[:head] + _ELLIPSIS + shown[len(shown) - (limit - 1 - head) :]


def as_plotly(text: str, limit: int | None = None) -> str:
    """Return ``text`` for a tick label or annotation of Plotly, which shows it literally."""
    return _PLOTLY_MARKUP.sub(lambda match: f"&#{ord(match[0])};", visible(text, limit))


def as_script_json(value: Any) -> str:
    """Return ``value`` as JSON that may stand inside a ``script`` element.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
