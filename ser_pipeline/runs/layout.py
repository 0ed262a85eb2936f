"""Names of the files in a run's folder, in one place for who writes them and who reads them.

```
runs/CORPUS-PROTOCOL-ABLATION-sSEED-KEY/
  run.json  config.toml  contents.csv  folds.json  audit.json  index.json  frozen-DIGEST.safetensors
  FOLD/
    history.jsonl  predictions.csv  undecided.csv  validation.csv  segments.npz  examples.npz  result.json  index.json
    model.safetensors  speech.json  last.pt  error.txt
```
"""

from __future__ import annotations

RUN = "run.json"
"""What a run says of itself before its first fold."""

CONFIG = "config.toml"
"""The whole settings of a run."""

CONTENTS = "contents.csv"
"""A hash of the content of every utterance of a run, by which `predict` knows it again."""

FOLDS = "folds.json"
"""The ids of every part of every fold."""

AUDIT = "audit.json"
"""What the audit of the corpus and of the folds found."""

PREDICTIONS = "predictions.csv"
"""A line for each test utterance of a fold."""

UNDECIDED = "undecided.csv"
"""A line for each turn of no class beside a fold's test utterances, as in `PREDICTIONS`; where there are some."""

VALIDATION = "validation.csv"
"""A line for each validation utterance of a fold, as in `PREDICTIONS`."""

PROFILE = "profile.json"
"""What the models of a run cost to use, where `ser-pipeline profile` measured it; no part of what training left."""

SEGMENTS = "segments.npz"
"""Scores, embeddings and probes of each test segment of a fold."""

EXAMPLES = "examples.npz"
"""Spectrograms and attention of a few test utterances of a fold."""

HISTORY = "history.jsonl"
"""A line for each epoch of a fold."""

RESULT = "result.json"
"""Scores and counts of a fold."""

STATE = "last.pt"
"""What a stopped fold needs to go on; absent once it is whole."""

WEIGHTS = "model.safetensors"
"""The weights of the epoch that was tested, but for those in `FROZEN`."""

FROZEN = "frozen-{}.safetensors"
"""Weights of a run that training left as they were, of all folds, with the XXH3 (128 bits) of the file."""

SPEECH = "speech.json"
"""Configuration of the speech encoder, so that the weights alone rebuild the model."""

ERROR = "error.txt"
"""The traceback of what broke a fold."""
