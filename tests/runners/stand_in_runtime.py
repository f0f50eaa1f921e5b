"""A stand-in for the module onnxruntime, with a GPU as ordered; it computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


@dataclass
class Runtime:
    """``offered``: what this build has; ``working``: what a session gets of that. ``nodes``: of
    each provider, by its name; None for a version that does not tell. ``calls`` is what was done.
    """

    offered: Sequence[str] = (TENSORRT, CUDA, CPU)
    working: Sequence[str] = (TENSORRT, CUDA, CPU)
    nodes: dict[str, int] | None = None
    load_error: Exception | None = None
    unfound: str = ""
    calls: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    def get_available_providers(self) -> list[str]:
        return list(self.offered)

    def preload_dlls(self) -> None:
        self.calls.append(("preload",))
        if self.unfound:
            print(self.unfound)

    def set_default_logger_severity(self, level: int) -> None:
        self.calls.append(("severity", level))

    def SessionOptions(self) -> Any:
        return SimpleNamespace(add_session_config_entry=self._configure)

    def InferenceSession(self, path: str, options: Any, **given: Any) -> Session:
        self.calls.append(("session", tuple(given["providers"]), given["enable_fallback"]))
        if self.load_error is not None and given["providers"] != [CPU]:
            raise self.load_error
        session = Session(self, [each for each in given["providers"] if each in self.working])
        if self.nodes is not None:
            session.get_provider_graph_assignment_info = self._parts
        return session

    @property
    def OrtValue(self) -> Any:
        return SimpleNamespace(ortvalue_from_numpy=self._value)

    @staticmethod
    def _value(array: Any, device: str, number: int) -> tuple[Any, str]:
        assert number == 0
        return array, device

    @staticmethod
    def _configure(key: str, value: str) -> None:
        assert (key, value) == ("session.record_ep_graph_assignment_info", "1")

    def _parts(self) -> list[Any]:
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda: ["node"])
            for name, count in (self.nodes or {}).items()
            for _ in range(count)
        ]


class Session:
    """A session whose every run gives the number of that run."""

    get_provider_graph_assignment_info: Any

    def __init__(self, runtime: Runtime, providers: list[str]) -> None:
        self._calls, self._providers = runtime.calls, providers
        self._runs = 0

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="tokens", type="tensor(int64)", shape=["batch", 4])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="logits", shape=[1, 4, 10])]

    def get_providers(self) -> list[str]:
        return self._providers

    def io_binding(self) -> Session:
        return self

    def bind_ortvalue_input(self, name: str, ortvalue: tuple[Any, str]) -> None:
        self._calls.append(("input", name, ortvalue[0].tolist(), ortvalue[1]))

    def bind_output(self, name: str, device_type: str, device_id: int) -> None:
        self._calls.append(("output", name, device_type, device_id))

    def run_with_iobinding(self, iobinding: object) -> None:
        self._runs += 1
        self._calls.append(("run", self._runs))

    def synchronize_outputs(self) -> None:
        self._calls.append(("synchronize",))

    def copy_outputs_to_cpu(self) -> list[Any]:
        self._calls.append(("copy out",))
        return [np.array([self._runs])]
