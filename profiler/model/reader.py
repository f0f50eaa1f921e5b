"""A helper process that names the tensors of model files; it is abandoned where a mount blocks it.

    python -I -m cvmprof.profiler.model.reader < requests > answers

It writes an empty line when it is ready; then it reads one JSON object per line, {"path", "limit"},
and writes one, {"path", "files", "remarks"}. ``files``: {"path", "device", "tensors"} of each file
that holds tensors, with rows as of `Tensor.row`; ``remarks``: what is wrong with the file. It opens
only the file that it is asked for, and spends at most a second and a GiB of memory on it. Standard
library only.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import Any

from .gguf import gguf, is_gguf
from .onnx import is_onnx, onnx
from .safetensors import is_safetensors, safetensors
from .source import Source, Unreadable, opened
from .tensor import Tensor

Parse = Callable[[Source], Iterator[Tensor | None]]
Answer = dict[str, Any]

#: below the time that the helper is given to answer
READ_TIMEOUT_S = 1.0
_MAX_MEMORY_BYTES = 1 << 30
_BY_SUFFIX: dict[str, Parse] = {".safetensors": safetensors, ".onnx": onnx, ".gguf": gguf}
_BY_CONTENT: tuple[tuple[Callable[[Source], bool], Parse], ...] = (
    (is_gguf, gguf), (is_safetensors, safetensors), (is_onnx, onnx),
)  # fmt: skip


def has_model_name(path: str) -> bool:
    """Whether a file's name says that it is a model."""
    return os.path.splitext(path)[1].lower() in _BY_SUFFIX


def answer(path: str, limit: int) -> Answer:
    """Name the tensors of a file, at most ``limit``; what was read before a fault is kept."""
    tensors, remarks = list[Tensor | None](), list[str]()
    is_model = has_model_name(path)
    try:
        is_model |= _read_into(tensors, path, limit)
    except Unreadable as error:
        remarks.append(str(error))
    except OSError as error:
        remarks.append(f"cannot be read: {error.strerror}")
    except MemoryError:
        remarks.append(f"has a header that takes more than {_MAX_MEMORY_BYTES >> 30} GiB of memory")
    if not is_model:
        return {"path": path, "files": [], "remarks": []}
    if len(tensors) > limit:
        remarks.append(f"only the first {limit:,} tensors are kept")
    files = _by_file(path, tensors[:limit], remarks)
    return {"path": path, "files": files, "remarks": remarks}


def _read_into(tensors: list[Tensor | None], path: str, limit: int) -> bool:
    """Return whether the file is a model; one more than ``limit`` says that there are more."""
    with opened(path) as source:
        parse = None if source is None else _format(path, source)
        if source is None or parse is None:
            return False
        with _limited_time():
            tensors.extend(islice(parse(source), limit + 1))
        return True


def _format(path: str, source: Source) -> Parse | None:
    by_suffix = _BY_SUFFIX.get(os.path.splitext(path)[1].lower())
    if by_suffix is not None:
        return by_suffix
    return next((parse for applies, parse in _BY_CONTENT if applies(source)), None)


@contextmanager
def _limited_time() -> Generator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Unreadable(f"has a header that takes longer than {READ_TIMEOUT_S:g} s to read")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, READ_TIMEOUT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _by_file(path: str, tensors: list[Tensor | None], remarks: list[str]) -> list[Answer]:
    """Group the sound tensors by the file that holds them; say what is wrong with the others."""
    sound = [each for each in tensors if each is not None and each.is_sound]
    damaged = len(tensors) - len(sound)
    if damaged:
        remarks.append(f"damaged entries, left out: {damaged:,}")
    _remark_names(sound, remarks)
    of_location = dict[str | None, list[Tensor]]()
    for each in sound:
        of_location.setdefault(each.location, []).append(each)
    files = (_of_file(path, *each, remarks) for each in of_location.items())
    return [each for each in files if each["tensors"]]


def _of_file(path: str, location: str | None, tensors: list[Tensor], remarks: list[str]) -> Answer:
    """The tensors that lie inside one file, in the order of their offsets."""
    place = path if location is None else _external(path, location)
    nothing: Answer = {"tensors": []}
    if place is None:
        remarks.append(f"tensors outside the model's directory, left out: {len(tensors):,}")
        return nothing
    try:
        status = os.stat(place)
    except (OSError, ValueError):
        remarks.append(f"data in a file that is not there: {_shown(location)}")
        return nothing
    inside = [each for each in tensors if each.end_bytes <= status.st_size]
    if len(inside) < len(tensors):
        beyond = len(tensors) - len(inside)
        remarks.append(f"tensors beyond the end of their file, left out: {beyond:,}")
    inside.sort(key=lambda each: (each.offset_bytes, each.end_bytes, each.name))
    _remark_overlaps(inside, remarks)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    return {"path": place, "device": device, "tensors": [each.row() for each in inside]}


def _external(path: str, location: str) -> str | None:
    """Where external data lies, with links followed as the kernel does; None: not below the model's
    directory, which ONNX forbids.
    """
    parts = location.split("/")
    if not location or location.startswith("/") or ".." in parts or "\0" in location:
        return None
    return os.path.realpath(os.path.join(os.path.dirname(path), location))


def _shown(location: str | None) -> str:
    return repr(location)[1:-1][:100]


def _remark_names(tensors: list[Tensor], remarks: list[str]) -> None:
    counts = Counter(each.name for each in tensors)
    again = sum(1 for count in counts.values() if count > 1)
    if again:
        remarks.append(f"names of several tensors: {again:,}")


def _remark_overlaps(tensors: list[Tensor], remarks: list[str]) -> None:
    """Tensors that share all their bytes are one weight with two names: that is usual."""
    overlapping, end_bytes, before = 0, 0, None
    for each in tensors:
        own = (each.offset_bytes, each.end_bytes)
        overlapping += each.size_bytes > 0 and each.offset_bytes < end_bytes and own != before
        end_bytes, before = max(end_bytes, each.end_bytes), own
    if overlapping:
        remarks.append(f"tensors that overlap others: {overlapping:,}")


def main() -> None:
    """Answer each line of standard input at once."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    print(flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request["path"], request["limit"])), flush=True)


if __name__ == "__main__":
    main()
