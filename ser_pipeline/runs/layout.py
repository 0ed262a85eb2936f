"""Names of the files in a run's folder, shared by the code that writes them and the code that reads them.

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
"""Description of a run, written before its first fold."""

CONFIG = "config.toml"
"""All settings of a run."""

CONTENTS = "contents.csv"
"""Hash of the content of every utterance of a run, by which `predict` recognises it."""

FOLDS = "folds.json"
"""Ids of the utterances in every part of every fold."""

AUDIT = "audit.json"
"""Findings of the audit of the corpus and the folds."""

PREDICTIONS = "predictions.csv"
"""One line for each test utterance of a fold."""

UNDECIDED = "undecided.csv"
"""One line for each rated utterance without a class in a fold's test part, as in `PREDICTIONS`, if there are any."""

VALIDATION = "validation.csv"
"""One line for each validation utterance of a fold, as in `PREDICTIONS`."""

PROFILE = "profile.json"
"""Size, time and memory of a run's models, measured by `ser-pipeline profile`; training does not write it."""

SEGMENTS = "segments.npz"
"""Scores, embeddings and probes of each test segment of a fold."""

EXAMPLES = "examples.npz"
"""Spectrograms and attention of a few test utterances of a fold."""

HISTORY = "history.jsonl"
"""One line for each epoch of a fold."""

RESULT = "result.json"
"""Scores and counts of a fold."""

STATE = "last.pt"
"""State from which a stopped fold resumes; absent in a finished fold."""

WEIGHTS = "model.safetensors"
"""Weights of the tested epoch, except for those in `FROZEN`."""

FROZEN = "frozen-{}.safetensors"
"""Frozen weights that all folds of a run share; the name contains the file's XXH3 (128 bits)."""

SPEECH = "speech.json"
"""Configuration of the speech encoder, which is needed to build the model for the weights."""

ERROR = "error.txt"
"""Traceback of the error that stopped a fold."""
