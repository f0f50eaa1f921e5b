"""A small WebDriver client: enough to open a page in headless Chromium and ask it things."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
_PROBE = re.compile(r"started successfully on port (\d+)")


class Browser:
    """A session of Chromium behind a running chromedriver."""

    def __init__(self, port: int, profile: str) -> None:
        self._base = f"http://127.0.0.1:{port}/session"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        options = {
            "args": [*_FLAGS, f"--user-data-dir={profile}"],
            "binary": shutil.which("chromium"),
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/{made['sessionId']}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def resize(self, width: int, height: int) -> None:
        """Set the window's size in pixels."""
        self._ask("POST", "/window/rect", {"width": width, "height": height})

    def open(self, page: Path) -> None:
        """Open a page of cvmprof from disk and wait until it says that it is drawn."""
        self._ask("POST", "/url", {"url": page.as_uri()})
        self.run_async(
            "const look = () => document.documentElement.dataset.drawnMs ? done(true)"
            " : requestAnimationFrame(look); look();"
        )

    def run(self, script: str) -> Any:
        """Run the body of a function and return what it returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def run_async(self, script: str) -> Any:
        """Run the body of a function that calls ``done(value)``; a rejected promise raises."""
        body = f"const done = arguments[0]; {script}"
        return self._ask("POST", "/execute/async", {"script": body, "args": []})

    def click(self, x: int, y: int) -> None:
        """Move the pointer to a place of the viewport and click there."""
        self._pointer(
            [
                {"type": "pointerMove", "duration": 0, "x": x, "y": y, "origin": "viewport"},
                {"type": "pointerDown", "button": 0},
                {"type": "pointerUp", "button": 0},
            ]
        )

    def point(self, x: int, y: int) -> None:
        """Move the pointer to a place of the viewport."""
        self._pointer(
            [
                {"type": "pointerMove", "duration": 0, "x": x - 3, "y": y, "origin": "viewport"},
                {"type": "pointerMove", "duration": 20, "x": x, "y": y, "origin": "viewport"},
            ]
        )

    def _pointer(self, steps: list[dict[str, Any]]) -> None:
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
        self._ask("POST", "/actions", {"actions": [mouse | {"actions": steps}]})

    def console(self) -> list[str]:
        """Return the console's messages since the last call, errors and warnings alike."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def screenshot(self, path: Path) -> None:
        """Save what the viewport shows."""
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def quit(self) -> None:
        """End the session."""
        self._ask("DELETE", "")


@contextmanager
def chromium() -> Generator[Browser]:
    """Run Chromium and its driver. Raises RuntimeError where either is not installed."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        raise RuntimeError(
            "Chromium and its driver are needed: apt install chromium chromium-driver"
        )
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as driver,
    ):
        try:
            browser = Browser(_port_of(driver), profile)
            yield browser
            browser.quit()
        finally:
            driver.terminate()


def _port_of(driver: subprocess.Popen[str]) -> int:
    assert driver.stdout is not None
    for line in driver.stdout:
        if found := _PROBE.search(line):
            return int(found[1])
    raise RuntimeError("chromedriver ended before it listened")
