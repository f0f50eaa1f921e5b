"""Runs Pythons with and without the hook of a session, and reads the phases that they marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from cvmprof.phases import VARIABLE, named
from cvmprof.profiler.session.frameworks import instrumented
from cvmprof.profiler.session.instrument import STARTUP

TIMEOUT_S = 60.0

#: packages with the modules and functions of frameworks that matter to the hook
STAND_INS = {
    "torch/__init__.py": "from torch.serialization import load\nfrom torch import nn\n",
    "torch/serialization.py": """
        import warnings
        def load(path, *, mmap=None):
            "Load what is saved."
            if mmap is not None:
                warnings.warn("about this call", FutureWarning, stacklevel=2)
            with open(path) as file:
                return file.read()
        """,
    "models.py": """
        import torch
        def model():
            return torch.nn.Module(torch.nn.Module(weights=[1]), torch.nn.Module(weights=[2]))
        """,
    "torch/nn/__init__.py": "from torch.nn.modules.module import Module\n",
    "torch/nn/modules/__init__.py": "",
    "torch/nn/modules/module.py": """
        class Module:
            def __init__(self, *children, weights=()):
                self.children, self.weights = children, weights
            def parameters(self):
                yield from self.weights
                for child in self.children:
                    yield from child.parameters()
            def load_state_dict(self, state):
                self.weights = state
            def _wrapped_call_impl(self, value):
                for child in self.children:
                    value = child(value)
                return value + 1
            __call__ = _wrapped_call_impl
        """,
    "safetensors/__init__.py": """
        class safe_open:
            def __init__(self, path):
                self.path = path
            def __enter__(self):
                if self.path == "missing":
                    raise FileNotFoundError(self.path)
                return self
            def __exit__(self, *error):
                pass
        """,
    "safetensors/torch.py": """
        import safetensors
        def load_file(path):
            with safetensors.safe_open(path) as file:
                return file.path
        """,
    "transformers/__init__.py": "",
    "transformers/modeling_utils.py": """
        import safetensors.torch
        class PreTrainedModel:
            @classmethod
            def from_pretrained(cls, path):
                return cls, safetensors.torch.load_file(path)
        """,
    "onnxruntime/__init__.py": """
        from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession
        """,
    "onnxruntime/capi/__init__.py": "",
    "onnxruntime/capi/onnxruntime_inference_collection.py": """
        class Session:
            def run(self, output_names, input_feed):
                return input_feed
        class InferenceSession(Session):
            def __init__(self, path):
                self.path = path
        """,
}


class Done(NamedTuple):
    """How a process ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Phase(NamedTuple):
    """A phase as its two lines describe it."""

    name: str
    framework: str
    pid: int
    tid: int
    start_ns: int
    end_ns: int


class Command:
    """A command in a directory, whose Pythons find packages in ``site``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.site = directory / "site"
        self.site.mkdir()
        self.phase_file = directory / "phases.jsonl"
        self.phase_file.touch()
        self.named = named(str(self.phase_file), self.phase_file.stat())

    def add(self, **files: str) -> None:
        """Write modules into ``site``."""
        for name, text in files.items():
            (self.site / f"{name}.py").write_text(textwrap.dedent(text))

    def add_stand_ins(self) -> None:
        for name, text in STAND_INS.items():
            path = self.site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def environment(self, python_path: str | None, *, hooked: bool) -> dict[str, str]:
        """The command's environment, where the user's PYTHONPATH is this; None: not set."""
        plain = {name: value for name, value in os.environ.items() if name[:6] != "PYTHON"}
        own = {} if python_path is None else {"PYTHONPATH": python_path}
        environment = {**plain, **own, "PYTHONDONTWRITEBYTECODE": "1", VARIABLE: self.named}
        return instrumented(environment, STARTUP) if hooked else environment

    def start(self, arguments: list[str], environment: dict[str, str]) -> Done:
        done = subprocess.run(
            arguments,
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def run(self, program: str, *options: str, hooked: bool = True) -> Done:
        """Run a Python program."""
        script = self.directory / "program.py"
        script.write_text(textwrap.dedent(program))
        arguments = [sys.executable, *options, script.name]
        return self.start(arguments, self.environment(str(self.site), hooked=hooked))

    def output(self, program: str, *options: str, hooked: bool = True) -> str:
        """Run a program that must succeed in silence on stderr; return what it printed."""
        done = self.run(program, *options, hooked=hooked)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def phases(self) -> list[Phase]:
        """The phases marked so far, by their begin; each must have ended, the innermost first."""
        opened: dict[tuple[int, int], list[dict[str, Any]]] = {}
        found: list[Phase] = []
        for line in self.phase_file.read_text().splitlines():
            mark = json.loads(line)
            stack = opened.setdefault((mark["pid"], mark["tid"]), [])
            if mark["event"] == "begin":
                stack.append(mark)
                continue
            begun = stack.pop()
            start_ns, end_ns = begun.pop("time_ns"), mark.pop("time_ns")
            assert (begun.pop("event"), mark.pop("event")) == ("begin", "end")
            assert begun == mark
            found.append(Phase(**begun, start_ns=start_ns, end_ns=end_ns))
        assert not any(opened.values())
        return sorted(found, key=lambda phase: phase.start_ns)

    def marked(self) -> list[str]:
        """What was marked, in short: "torch load"."""
        return [f"{phase.framework} {phase.name}" for phase in self.phases()]
