"""What is run: models, the ONNX runner, the lab."""
