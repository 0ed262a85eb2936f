"""Functionals of whole utterances by openSMILE, a common baseline of the field; needs the extra `opensmile`.

Source: Eyben, Wöllmer and Schuller, openSMILE, ACM Multimedia 2010; its package on PyPI.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.config import Audio
from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import FUNCTIONALS

SHORTEST = 0.1
"""Seconds that shorter utterances are padded to: openSMILE has no frames for less."""


def functional_rows(samples: NDArray[np.float32], audio: Audio, settings: Any) -> NDArray[np.float32]:
    """Functionals (1, 1, size) of an utterance's samples (N,); undefined values are 0.

    Args:
        samples: the whole utterance, -1 to 1.
        audio: sample rate.
        settings: names the functional `set`.

    Raises:
        PipelineError: the package is not installed.
    """
    short = max(0, round(SHORTEST * audio.rate) - len(samples))
    made = _smile(settings.set)(np.pad(samples, (0, short)), audio.rate)
    rows = np.asarray(made, np.float32).reshape(1, 1, FUNCTIONALS[settings.set])
    limit = float(np.finfo(np.float32).max)
    return np.asarray(np.nan_to_num(rows, nan=0.0, posinf=limit, neginf=-limit), np.float32)


@cache
def _smile(name: str) -> Any:
    """OpenSMILE's extractor of a set of functionals, opened once per process."""
    try:
        import opensmile
    except ImportError:
        raise PipelineError(
            "functionals need the package opensmile: pip install 'ser-pipeline[opensmile]' "
            "(free for research and private use only)"
        ) from None
    return opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals)
