"""Speech emotion recognition with co-attention: cached features, leak-proof folds, honest numbers.

Three stages that meet on disk: `extract` (audio to HDF5 shards), `train` (shards to runs) and `report`
(runs to tables and figures). Everything here is a plain function or a frozen dataclass; the command line
lives in `ser_pipeline.cli`.
"""

__version__ = "0.1.0"
