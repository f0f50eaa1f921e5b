"""Write logs as a client does: each method is something that it does, in the second ``now``."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, field

REPOSITORY = "models.lab.test"
HOST = "127.0.0.1:8000"
CACHE = f"/var/cache/client/{REPOSITORY}"
START = datetime.datetime(2026, 3, 1, 11, 59, 58)


def object_hash(number: int) -> str:
    """The hash of the object of a number."""
    return hashlib.sha1(str(number).encode()).hexdigest()


@dataclass
class DebugLogWriter:
    """The text of a debug log, as it grows."""

    zone: str = "UTC"
    now: datetime.datetime = START
    lines: list[str] = field(default_factory=list[str])

    def text(self) -> str:
        """Everything written so far."""
        return "".join(self.lines)

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += datetime.timedelta(seconds=seconds)

    def say(self, part: str, message: str) -> None:
        """A message of a part of the client, of one line or of several."""
        stamp = self.now.strftime("%m-%d-%Y %H:%M:%S")
        self.lines.append(f"({part}) {message}    [{stamp} {self.zone}]\n")

    def begin(self) -> None:
        """The client describes itself, in a message of several lines."""
        self.say("cvmfs", "Options:\nCVMFS_A=b    # from /etc/a.conf\nCVMFS_C=d    # from [a]\n")
        self.say("talk", f"socket created at ./cvmfs_io.{REPOSITORY} (fd 9)")

    def know(self, inode: int, path: str) -> None:
        """The client remembers the path of an inode."""
        self.say("lru", f"insert inode --> path {inode} -> '{path}'")

    def look_up(self, number: int, hit: bool) -> None:
        """The client looks an object up in its cache."""
        name = object_hash(number)
        place = f"{CACHE}/{name[:2]}/{name[2:]}"
        self.say("cache", f"hit {place}" if hit else f"miss {place} (-2)")

    def call(self, words: str) -> None:
        """The kernel calls the client."""
        self.say("cvmfs", f"cvmfs_{words}")

    def read(self, inode: int, size: int, offset: int) -> None:
        """The kernel reads; an offset is printed with 32 bits."""
        wrapped = (offset + (1 << 31)) % (1 << 32) - (1 << 31)
        self.call(f"read inode: {inode} reading {size} bytes from offset {wrapped} fd -2")

    def miss(self, number: int, label: str, suffix: str = "P") -> None:
        """A fetch begins."""
        self.say("cache", f"downloading {label}")
        self.say("cache", f"miss: {label} /data/{self._name(number)}{suffix}")

    def ask(self, number: int, suffix: str = "P", host: str = HOST) -> None:
        """A request is sent."""
        url = f"http://{host}/cvmfs/{REPOSITORY}/data/{self._name(number)}{suffix}"
        self.say("download", f"escaped {url} to {url}")
        head = f"GET /cvmfs/{REPOSITORY}/data/{self._name(number)}{suffix} HTTP/1.1"
        self.say("curl", f"{{header/out}} {head}\nHost: {host}\nUser-Agent: cvmfs Fuse 9.8.7")

    def answer(self, status: int) -> None:
        """An answer begins, and data comes in."""
        self.say("curl", f"{{header/in}} HTTP/1.1 {status} Words")
        for _ in range(3):
            self.say("curl", "{data/in} <snip>")

    def verify(self, number: int, error: int = 0, proxy: str = "DIRECT", suffix: str = "P") -> None:
        """A request is over."""
        about = f"Verify downloaded url /data/{self._name(number)}{suffix}, proxy {proxy}"
        self.say("download", f"(manager 'default') {about} (curl error {error})")

    def finish(self, number: int, suffix: str = "P") -> None:
        """A fetch succeeds."""
        name = self._name(number)
        self.say("cache", f"finished downloading of /data/{name}{suffix}")
        self.say("cache", f"commit {CACHE}/{name} {CACHE}/txn/fetch1")

    def fail(self, number: int, label: str, suffix: str = "P") -> None:
        """A fetch fails."""
        name = f"{object_hash(number)}{suffix}"
        self.say("cache", f"failed to fetch {label} (hash: {name}, error 10 [x])")

    def fetch(self, number: int, label: str, took_s: int = 1, suffix: str = "P") -> None:
        """A fetch from its beginning to its end, of one request."""
        self.look_up(number, hit=False)
        self.look_up(number, hit=False)
        self.miss(number, label, suffix)
        self.ask(number, suffix)
        self.wait(took_s)
        self.answer(200)
        self.verify(number, suffix=suffix)
        self.finish(number, suffix)

    @staticmethod
    def _name(number: int) -> str:
        name = object_hash(number)
        return f"{name[:2]}/{name[2:]}"


def trace_line(time_ms: str, code: int, path: str, word: str) -> str:
    """A line of a trace file."""
    fields = (time_ms, str(code), path, word)
    return ",".join('"' + field.replace('"', '""') + '"' for field in fields) + "\r\n"
