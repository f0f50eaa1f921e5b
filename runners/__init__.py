"""What is traced: models, the ONNX runner, the lab."""
