"""Check that the folder `emotions` gives the predictions of `stored.csv` for files in `audio`; see `.ci/elsewhere`."""

import csv
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLOSE = 5e-3


def stored() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield every file with its stored probabilities."""
    with Path("stored.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            scores = {name[6:]: math.exp(float(row[name])) for name in row if name.startswith("log_p:")}
            yield f"audio/{row['file']}", {name: score / sum(scores.values()) for name, score in scores.items()}


def by_command(model: str, files: list[str]) -> list[dict[str, float]]:
    """Return the answers of `ser-pipeline predict`."""
    command = [str(Path(sys.executable).with_name("ser-pipeline")), "predict", model, *files, "--jsonl", "--quiet"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line)["probabilities"] for line in lines]


def by_speech_emotion(files: list[str]) -> list[dict[str, float]]:
    """Return the answers of the class."""
    from ser_pipeline import SpeechEmotion

    model = SpeechEmotion.from_pretrained("emotions")
    return [dict(model(file).probabilities) for file in files]


def by_transformers(files: list[str]) -> list[dict[str, float]]:
    """Return the answers of transformers' pipeline."""
    import soundfile
    from transformers import pipeline

    listen = pipeline("audio-classification", "emotions", trust_remote_code=True)
    found = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        said = listen({"raw": samples, "sampling_rate": rate}, top_k=None)
        found.append({one["label"]: one["score"] for one in said})
    return found


def by_onnxruntime(model: str, files: list[str]) -> list[dict[str, float]]:
    """Return the answers of onnxruntime with the graph alone."""
    import numpy as np
    import onnxruntime
    import soundfile

    session, found = onnxruntime.InferenceSession(model), []
    labels = json.loads(session.get_modelmeta().custom_metadata_map["ser-pipeline"])["labels"]
    for file in files:
        samples, _ = soundfile.read(file, dtype="float32")
        given = {"waveform": samples[None], "samples": np.array([len(samples)])}
        found.append(dict(zip(labels, session.run(None, given)[0][0].tolist(), strict=True)))
    return found


def main(which: str) -> None:
    """Compare all interfaces that the environment `which` supports."""
    wanted = dict(stored())
    files = list(wanted)
    graph = "emotions/model.onnx"
    found = {"the command, ONNX": by_command(graph, files), "onnxruntime": by_onnxruntime(graph, files)}
    if which == "full":
        found |= {"SpeechEmotion": by_speech_emotion(files), "transformers": by_transformers(files)}
        found |= {"the command": by_command("emotions", files)}
    else:
        import importlib.util

        assert not [name for name in ("torch", "transformers", "librosa") if importlib.util.find_spec(name)]
    for name, answers in found.items():
        pairs = zip(answers, wanted.values(), strict=True)
        apart = max(abs(one[label] - other[label]) for one, other in pairs for label in other)
        print(f"{which}, {name}: {len(files)} files, the largest difference of a probability is {apart:.1g}")
        assert apart < CLOSE, name


if __name__ == "__main__":
    main(sys.argv[1])
