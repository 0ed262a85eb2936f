"""Types of arrays, for signatures, and the scale of integer samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Positions of utterances or of stored segments."""

Ints = NDArray[np.int64]
"""Whole numbers: counts, classes, codes."""

Floats = NDArray[np.float64]
"""Scores and other numbers in double precision."""

Floats32 = NDArray[np.float32]
"""Samples from -1 to 1, or features, in single precision."""

Array = NDArray[Any]
"""Numbers of a type that depends on a file or a feature."""

FULL_SCALE = 32_768.0
"""Magnitude of the int16 sample that stands for 1.0."""
