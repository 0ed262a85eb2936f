"""The temporary folder of the process that workers are forked from, removed by it when it ends.

It ends with the command, however that ends: one that is killed cannot clean up behind itself.
"""

import atexit
import os
import shutil

SOCKETS = "SER_PIPELINE_SOCKETS"
"""Environment variable with the folder, for that process alone."""

if folder := os.environ.pop(SOCKETS, ""):
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
