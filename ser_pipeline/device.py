"""The arithmetic in which a device trains, and how its libraries are set to it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import torch

from ser_pipeline.config import Config
from ser_pipeline.errors import PipelineError
from ser_pipeline.processes import cores
from ser_pipeline.provenance import Fact, here

HALF = ("avx512_bf16", "amx_bf16")
"""Instructions with which a processor multiplies in bf16 at twice the speed of float32, or more."""

TRIM, PAD, MAPPED = -1, -2, -4
"""Parameters of glibc's `mallopt` (malloc.h): M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX."""


def precision(wanted: str, device: torch.device) -> str:
    """The arithmetic, "fp32" or "bf16": what is `wanted`, or for "auto" bf16 on a device that is faster in it."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return "bf16" if any(known.get(name) for name in HALF) else "fp32"


def autocasting(config: Config, device: torch.device) -> Callable[[], Any]:
    """Context manager of the arithmetic: bf16 autocast, or plain float32."""
    if precision(config.train.precision, device) == "bf16":
        return partial(torch.autocast, device.type, torch.bfloat16)
    return nullcontext


def set_arithmetic(config: Config, device: torch.device) -> None:
    """Have this process work on `device`, and its libraries repeat float32 bit for bit or be as fast as can be."""
    if device.type == "cpu":
        keep_memory()
    if device.type != "cuda":
        return
    if device.index is not None:
        torch.cuda.set_device(device)
    exact = precision(config.train.precision, device) == "fp32"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to repeat itself
    torch.set_deterministic_debug_mode("warn" if exact else "default")  # its other name imports a compiler: seconds
    torch.backends.cuda.enable_mem_efficient_sdp(not exact)  # its backward pass adds up in any order
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = exact
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Have torch compute on `count` threads in the block, and linear algebra of numpy and scipy on one.

    How a sum is split over threads decides on its last digit. Left alone, libraries take as many threads as there are
    cores, and training would give other weights on another machine, or beside other folds.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def batches_beside(device: torch.device) -> ThreadPoolExecutor:
    """Threads for batches that do not depend on each other: one a core, each of which computes alone.

    torch's own threads would wait for one another at every layer, and the last digits would depend on their number.
    """
    if device.type != "cpu":
        return ThreadPoolExecutor(1)
    return ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,))


@cache
def keep_memory() -> None:
    """Have glibc keep the memory that is freed, for the next tensor of that size.

    It gives large blocks back to Linux at once, which then clears the pages of the same ones anew in every step: up to
    half of its time. The process grows by a few percent.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MAPPED, 0)
        mallopt(TRIM, -1)
        mallopt(PAD, 64 << 20)


def free_memory() -> None:
    """Have glibc give back to Linux what was freed, as random weights are once others stand in their place."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)


def gpu_jobs(device: torch.device, each: int | None) -> int | None:
    """Folds at a time with `each` on every GPU; None, for the default, without GPUs or a number."""
    return each * len(_devices(device)) if each and device.type == "cuda" else None


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        PipelineError: it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise PipelineError(f"no device '{name}' on this machine; --device auto takes what is there") from None
    return device


def _devices(device: torch.device) -> tuple[str, ...]:
    """The devices that folds are dealt out to: every CUDA device where just "cuda" is asked for."""
    if device.type == "cuda" and device.index is None:
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return (str(device),)


def made_on(device: torch.device, config: Config) -> dict[str, Fact]:
    """What a fold was made by: this process, its device with the libraries below torch, and the threads of a fold."""
    about: dict[str, Fact] = {"device": _device_name(device), "threads": config.train.threads}
    if device.type == "cuda":
        about["cuda"] = str(torch.version.cuda)
        about["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    else:
        about["instructions"] = torch.backends.cpu.get_cpu_capability()
    return {**here(), **about}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
