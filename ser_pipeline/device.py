"""Devices, their arithmetic, and the settings of their libraries."""

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
"""Instruction sets with which a CPU multiplies in bf16 at least twice as fast as in float32."""

TRIM, PAD, MAPPED = -1, -2, -4
"""Parameters of glibc's `mallopt` (malloc.h): M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX."""


def precision(wanted: str, device: torch.device) -> str:
    """Return the arithmetic, "fp32" or "bf16": `wanted`, or for "auto" bf16 if the device is faster in it."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return "bf16" if any(known.get(name) for name in HALF) else "fp32"


def autocasting(config: Config, device: torch.device) -> Callable[[], Any]:
    """Return the context manager of the arithmetic: bf16 autocast, or none for float32."""
    if precision(config.train.precision, device) == "bf16":
        return partial(torch.autocast, device.type, torch.bfloat16)
    return nullcontext


def set_arithmetic(config: Config, device: torch.device) -> None:
    """Select `device` for this process; in float32 make its libraries deterministic, otherwise as fast as possible."""
    if device.type == "cpu":
        keep_memory()
    if device.type != "cuda":
        return
    if device.index is not None:
        torch.cuda.set_device(device)
    exact = precision(config.train.precision, device) == "fp32"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required for a deterministic cuBLAS
    torch.set_deterministic_debug_mode("warn" if exact else "default")  # the usual function imports a slow compiler
    torch.backends.cuda.enable_mem_efficient_sdp(not exact)  # its backward pass adds in varying order
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = exact
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Limit torch to `count` threads in the block, and the linear algebra of numpy and scipy to one.

    The last digit of a sum depends on how it is split over threads. By default, libraries use a thread per core, and
    training would give other weights on another machine, or in parallel with other folds.
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
    """Return a thread pool for independent batches, with one thread per core, each of which computes alone.

    torch's own threads would wait for each other at every layer, and the last digits would depend on their number.
    """
    if device.type != "cpu":
        return ThreadPoolExecutor(1)
    return ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,))


@cache
def keep_memory() -> None:
    """Make glibc keep freed memory for the next tensor of the same size.

    By default, glibc returns large blocks to Linux at once, and Linux clears their pages again in every step, which
    takes up to half of its time. The process grows by a few percent.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MAPPED, 0)
        mallopt(TRIM, -1)
        mallopt(PAD, 64 << 20)


def free_memory() -> None:
    """Make glibc return freed memory to Linux, such as that of random weights after others have replaced them."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)


def gpu_jobs(device: torch.device, each: int | None) -> int | None:
    """Return the number of folds in parallel with `each` on every GPU; None, the default, without GPUs or `each`."""
    return each * len(_devices(device)) if each and device.type == "cuda" else None


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" is CUDA if available, otherwise Apple's MPS, otherwise the CPU.

    Raises:
        PipelineError: the device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise PipelineError(f"no device '{name}' on this machine; --device auto uses the first available") from None
    return device


def _devices(device: torch.device) -> tuple[str, ...]:
    """Return the devices for folds: all CUDA devices for "cuda" without an index."""
    if device.type == "cuda" and device.index is None:
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return (str(device),)


def made_on(device: torch.device, config: Config) -> dict[str, Fact]:
    """Describe what trained a fold: this process, its device, the libraries of the device, and the threads."""
    about: dict[str, Fact] = {"device": _device_name(device), "threads": config.train.threads}
    if device.type == "cuda":
        about["cuda"] = str(torch.version.cuda)
        about["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    else:
        about["instructions"] = torch.backends.cpu.get_cpu_capability()
    return {**here(), **about}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
