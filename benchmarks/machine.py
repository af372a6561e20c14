"""The machine that is measured on: its device, memory and peak. All that differs on CUDA is here."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate")


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now() -> float:
    """The time in seconds, once the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def random_bf16(*shape: int) -> Tensor:
    return torch.randn(shape).to(device(), torch.bfloat16)


def seconds_of(call: Callable[[], object], at_least: float = 0.06) -> float:
    """Seconds a call, the median of three loops of about ``at_least`` seconds together. The first calls of a
    shape, in which kernels are chosen, are not counted."""
    call()
    started = now()
    call()
    times = max(1, int(at_least / 3 / max(now() - started, 1e-7)))
    loops = []
    for _ in range(3):
        started = now()
        for _ in range(times):
            call()
        loops.append((now() - started) / times)
    return statistics.median(loops)


def peak_flops() -> float:
    """Floating-point operations a second in one large bf16 product."""
    size = 8192 if torch.cuda.is_available() else 4096
    left, right, out = random_bf16(size, size), random_bf16(size, size), random_bf16(size, size)
    return 2 * size**3 / seconds_of(lambda: torch.mm(left, right, out=out), 1.0)


def describe() -> dict[str, object]:
    """What a figure must be read with."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }
