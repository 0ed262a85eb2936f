"""Export of a trained run as a model folder or an ONNX graph, and profiling of its models."""
