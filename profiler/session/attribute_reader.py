"""A helper process that reads extended attributes; it is abandoned where a dead mount blocks it.

    python -I attribute_reader.py < requests > answers

It writes an empty line when it is ready; then it reads one JSON object per line, {"path", "names"},
and writes one, {"path", "device", "inode", "attributes", "reason"}. It imports the standard library
only, nothing of cvmprof.
"""

from __future__ import annotations

import json
import os
import sys

_MAX_PAGES = 4096


def _read(path: str, name: str) -> str:
    return os.getxattr(path, name).decode("utf-8", "backslashreplace")


def _pages(path: str, name: str) -> str:
    """Read an attribute with its further pages, which newer clients name NAME~1, NAME~2 …"""
    text = _read(path, name)
    header = text.split("\n", 1)[0] + "\n"
    for number in range(1, _MAX_PAGES):
        try:
            page = _read(path, f"{name}~{number}")
        except OSError:
            break
        text = text.rstrip("\n") + "\n" + page.removeprefix(header)
    return text


def _answer(path: str, names: list[str]) -> dict[str, object]:
    attributes: dict[str, str] = {}
    try:
        status = os.stat(path)
    except OSError as error:
        return {"path": path, "attributes": attributes, "reason": error.strerror}
    reason = None
    for name in names:
        try:
            read = _pages if name == "user.chunk_list" else _read
            attributes[name] = read(path, name)
        except OSError as error:
            reason = error.strerror
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    answer = {"path": path, "device": device, "inode": status.st_ino, "attributes": attributes}
    return {**answer, "reason": None if attributes else reason}


def main() -> None:
    """Answer each line of standard input at once."""
    print(flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_answer(request["path"], request["names"])), flush=True)


if __name__ == "__main__":
    main()
