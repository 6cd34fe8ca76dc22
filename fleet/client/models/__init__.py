"""A model as its engineer has it: checked, converted to ONNX, and with requests to try it with."""
