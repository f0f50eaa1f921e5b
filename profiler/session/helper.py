"""Ask a helper process that a dead mount may block, and leave it behind when it does not answer."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

TIMEOUT_S = 2.0
UNANSWERED = f"no answer within {TIMEOUT_S:.0f} s"
#: a busy machine may take long to start a helper; that is not the mount's fault
_START_TIMEOUT_S = 10.0

Request = dict[str, Any]
Answer = dict[str, Any]
Note = Callable[..., None]


def answers(program: Sequence[str], requests: Sequence[Request], note: Note) -> Iterator[Answer]:
    """Yield an answer to each request, in order; after a timeout the rest count as unanswered.

    ``program``: arguments for Python; it writes an empty line when it is ready, then a line of JSON
    for each line of JSON. Answers have ``asked_ns`` and ``answered_ns``; one that never came has
    only them, the request's ``path``, and `UNANSWERED` as its ``reason``. ``note`` gets the process
    before it reads anything.
    """
    with subprocess.Popen(
        [sys.executable, "-I", *program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
    ) as helper:
        note("reader", pid=helper.pid)
        ready = _line(helper, _START_TIMEOUT_S)
        for number, request in enumerate(requests):
            asked_ns = time.monotonic_ns()
            answer = _ask(helper, request) if ready else None
            if answer is None:
                helper.kill()
                helper.returncode = -9  # not waited for: the kernel may hold it
                yield from (_unanswered(each, asked_ns) for each in requests[number:])
                return
            yield {**answer, "asked_ns": asked_ns, "answered_ns": time.monotonic_ns()}


def _ask(helper: subprocess.Popen[bytes], request: Request) -> Answer | None:
    assert helper.stdin is not None
    try:
        helper.stdin.write(json.dumps(request).encode() + b"\n")
        helper.stdin.flush()
        line = _line(helper, TIMEOUT_S)
        return None if line is None else json.loads(line)
    except (BrokenPipeError, ValueError):  # it died, perhaps in the middle of its answer
        return None


def _line(helper: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    assert helper.stdout is not None
    ready, _, _ = select.select([helper.stdout], [], [], timeout_s)
    return (helper.stdout.readline() or None) if ready else None


def _unanswered(request: Request, asked_ns: int) -> Answer:
    times = {"asked_ns": asked_ns, "answered_ns": time.monotonic_ns()}
    return {"path": request["path"], "reason": UNANSWERED, **times}
