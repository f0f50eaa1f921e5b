"""A process of its own that reads extended attributes, left behind where it hangs on a dead mount.

    python -I attribute_reader.py < requests > answers

First an empty line, when it is ready; then one JSON object per line each way: {"path", "names"} ->
{"path", "device", "inode", "attributes", "reason"}. Standard library only, nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys

_MAX_PAGES = 4096


def _read(path: str, name: str) -> str:
    return os.getxattr(path, name).decode("utf-8", "backslashreplace")


def _pages(path: str, name: str) -> str:
    """An attribute with its further pages, which newer clients serve as NAME~1, NAME~2 …"""
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
    found: dict[str, str] = {}
    try:
        status = os.stat(path)
    except OSError as error:
        return {"path": path, "attributes": found, "reason": error.strerror}
    reason = None
    for name in names:
        try:
            found[name] = _pages(path, name) if name == "user.chunk_list" else _read(path, name)
        except OSError as error:
            reason = error.strerror
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    answer = {"path": path, "device": device, "inode": status.st_ino, "attributes": found}
    return {**answer, "reason": None if found else reason}


def main() -> None:
    """Answers each line of standard input, at once."""
    print(flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_answer(request["path"], request["names"])), flush=True)


if __name__ == "__main__":
    main()
