"""Which tensors a model file holds, and where: the headers of safetensors, ONNX and GGUF."""

from __future__ import annotations
