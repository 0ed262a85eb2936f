"""Removal of the temporary folder of the process that workers are forked from, when this process ends.

It ends with the command, even if that is killed and cannot remove the folder itself.
"""

import atexit
import os
import shutil

SOCKETS = "SER_PIPELINE_SOCKETS"
"""Environment variable with the path of the folder, which only that process gets."""

if folder := os.environ.pop(SOCKETS, ""):
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
