"""Loads an ONNX model and runs it: a user's script, with its phases named.

    python infer.py MODEL.onnx [--runs N] [--threads N]

Works with and without cvmprof installed, traced or not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import time

import numpy as np
import onnxruntime

try:
    from cvmprof import phase
except ImportError:  # without cvmprof a phase does nothing
    phase = contextlib.nullcontext


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load an ONNX model and run it.")
    parser.add_argument("model", help="path of the .onnx file")
    parser.add_argument("--runs", type=int, default=3, help="how often to run it (default: 3)")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads per operator (default: all)"
    )
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = chosen.threads

    begun = time.monotonic()
    with phase("load"):
        session = onnxruntime.InferenceSession(
            chosen.model, options, providers=["CPUExecutionProvider"]
        )
    print(f"load: {time.monotonic() - begun:.3f} s")

    # 32 tokens spread over the vocabulary, the same ones every time.
    vocabulary = session.get_outputs()[0].shape[-1]
    tokens = np.linspace(0, vocabulary - 1, num=32).astype(np.int64).reshape(1, 32)
    for number in range(1, chosen.runs + 1):
        begun = time.monotonic()
        with phase("run"):
            logits = session.run(None, {"tokens": tokens})[0]
        print(f"run {number}: {time.monotonic() - begun:.3f} s")
        print(f"checksum: {hashlib.sha256(logits.tobytes()).hexdigest()[:16]}")


if __name__ == "__main__":
    main()
