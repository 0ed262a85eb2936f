"""A trained run to what other tools load: a model folder, an ONNX graph, and figures of its cost."""
