"""ONNX graphs: bodies to tensors and back, sessions, batches, warm-up, and several graphs that answer as one."""
