"""Names of a model folder's files and weights, in one place for who writes them and who reads them."""

ABOUT = "config.json"
"""Settings, labels and what the encoders are, in the form that transformers reads."""

FRONT = "preprocessor_config.json"
"""What transformers' feature extractor is made of."""

WEIGHTS = "model.safetensors"
"""The weights of all members, and of the encoders that made their features."""

CODE = "speech_emotion.py"
"""What transformers imports with `trust_remote_code=True`."""

CARD = "README.md"
"""The model card."""

ONNX = "model.onnx"
"""The ONNX graph, where it was asked for."""

MODEL_TYPE = "ser-pipeline"
"""Value of `model_type` in `config.json`."""

SHARED, MEMBERS, MADE = "shared.", "members.", "made."
"""How names of weights begin."""
