"""Draws the graph and the list of files in docs/architecture.md from the sources:
``python docs/draw_architecture.py``.

With ``--check`` it writes nothing and exits 1 if the page is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cvmprof.docs.imports import FLOORS, ROOT_FILES, arrows

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"

# Everyone may import errors, and these hold no rooms: arrows to them say nothing.
_NOT_DRAWN = {"errors", "__init__", "__main__", "profiler", "reports"}
_FLOOR_TITLES = {
    "commands": "floor 4: the command line",
    "reports": "floor 3, reports/: how it looks",
    "profiler": "floor 2, profiler/: what happened",
    "probes": "floor 1: what is observed",
    "runners": "apart: what is run",
}


def drawn(text: str, root: Path) -> str:
    """The page's text with both blocks drawn again."""
    text = _replaced(text, "graph", graph(arrows(root)))
    return _replaced(text, "files", file_list(root))


def graph(imported: dict[str, set[str]]) -> str:
    """A Mermaid flowchart of who imports whom. An arrow that follows from others is left out."""
    rooms = {
        room: {each for each in targets if each not in _NOT_DRAWN}
        for room, targets in imported.items()
        if room not in _NOT_DRAWN
    }
    lines = ["```mermaid", "flowchart TD"]
    for floor, title in _FLOOR_TITLES.items():
        lines.append(f'    subgraph {floor}_floor["{title}"]')
        lines += [
            f'        {_id(room)}["{room}"]' for room in sorted(rooms) if _floor(room) == floor
        ]
        lines.append("    end")
    lines += [f"    {_id(a)} --> {_id(b)}" for a, b in _reduced(rooms)]
    return "\n".join([*lines, "```"])


def file_list(root: Path) -> str:
    """Every file with the first sentence of its docstring, by directory."""
    at_root = [root / f"{name}.py" for name in ROOT_FILES]
    paths = at_root + [path for floor in FLOORS for path in (root / floor).rglob("*")]
    lines: list[str] = []
    for directory in dict.fromkeys(path.parent for path in sorted(paths, key=_order)):
        rows = [
            f"| `{path.name}` | {sentence} |"
            for path in sorted(paths)
            if path.parent == directory and (sentence := _first_sentence(path))
        ]
        if rows:
            name = f"{directory.relative_to(root)}/" if directory != root else "the root"
            lines += [f"**{name}**", "", "| file | holds |", "|---|---|", *rows, ""]
    return "\n".join(lines).rstrip()


def _reduced(rooms: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    for room in sorted(rooms):
        for target in sorted(rooms[room]):
            others = rooms[room] - {target}
            if not any(target in _reachable(rooms, each, without=room) for each in others):
                yield room, target


def _reachable(rooms: dict[str, set[str]], start: str, without: str) -> set[str]:
    seen: set[str] = set()
    pending = [start]
    while pending:
        room = pending.pop()
        if room not in seen and room != without:
            seen.add(room)
            pending += rooms.get(room, ())
    return seen


def _floor(room: str) -> str:
    floor = room.split("/")[0]
    return {"cli": "commands", "phases": "runners"}.get(floor, floor)


def _id(room: str) -> str:
    return room.replace("/", "_")


def _order(path: Path) -> tuple[int, str]:
    parts = path.relative_to(ROOT).parts
    return (FLOORS.index(parts[0]) if parts[0] in FLOORS else -1, str(path.parent))


def _first_sentence(path: Path) -> str:
    """What a file says it holds; "" if it says nothing, or is of another kind."""
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    elif path.name.endswith(".bpf.c"):
        comment = re.search(
            r"/\*(.*?)\*/",
            re.sub(r"^[/#].*SPDX.*|^#define.*", "", path.read_text(), flags=re.M),
            re.S,
        )
        text = re.sub(r"\n \* ?", "\n", comment[1]).strip() if comment else ""
    else:
        return ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`])\. |\.$", paragraph)[0].replace("``", "`").replace("|", "\\|")


def _replaced(text: str, name: str, block: str) -> str:
    begin, end = f"<!-- {name}: drawn by docs/draw_architecture.py -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    if not after:
        raise ValueError(f"{PAGE.name} lacks the marks of the block {name!r}")
    return f"{before}{begin}\n{block}\n{end}{after}"


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare it."""
    text = PAGE.read_text()
    if arguments == ["--check"]:
        return 0 if text == drawn(text, ROOT) else 1
    PAGE.write_text(drawn(text, ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
