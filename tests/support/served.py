"""Commands forked from a process that has loaded their modules: they start in milliseconds, not in seconds.

`serving(environment)` yields a command line to use in place of `python -m ser_pipeline`: this file, run as a program,
sends its arguments, folder, environment and streams to the process that forks.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

LOADED = ("features.extract", "training.queue", "cli.train", "report.page", "predict.predictor", "export.writing")
"""Modules of the package that take seconds to import."""

SIZE = 8
"""Number of bytes that contain a message's length."""


@contextmanager
def serving(environment: Mapping[str, str], folder: Path) -> Iterator[list[str]]:
    """Yield the words of the command, which is served until the block ends.

    Args:
        environment: environment in which the modules are imported; each command has its own as well.
        folder: folder in which they are imported.
    """
    with tempfile.TemporaryDirectory() as place:  # a socket's name must be short
        name = f"{place}/served"
        words = [sys.executable, __file__, "--serve", name]
        with subprocess.Popen(words, env=environment, cwd=folder, stdout=subprocess.PIPE) as server:
            assert server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield [sys.executable, "-S", "-E", __file__, name]
            server.kill()


def _serve(name: str) -> None:
    """Fork a parent for each command, which forks the command, waits for it and reports its exit status."""
    main = import_module("ser_pipeline.__main__").main
    for module in LOADED:
        import_module(f"ser_pipeline.{module}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen(16)
        gc.freeze()  # otherwise garbage collection in each command copies memory
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            asked, _ = listening.accept()
            if not os.fork():
                break
            asked.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(asked, SIZE, 3)
    words, folder, environment = json.loads(asked.recv(int(head), socket.MSG_WAITALL))
    if keeping := os.fork():
        _, status = os.waitpid(keeping, 0)
        asked.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    asked.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = (os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w")))
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = words
    main()


def _ask(name: str, *words: str) -> int:
    """Have the server run a command; returns its exit status."""
    text = json.dumps([words, str(Path.cwd()), dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(name)
        socket.send_fds(server, [f"{len(text):{SIZE}}".encode()], [0, 1, 2])
        server.sendall(text)
        return int(server.recv(SIZE) or 1)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _serve(sys.argv[2])
    else:
        sys.exit(_ask(*sys.argv[1:]))
