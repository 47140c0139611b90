"""Description of the machine that runs a benchmark: processor, load, packages, matmul speed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from knowcap_benchmarks.interleave import Request, run_worker

VECTOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Vector extensions that are reported; bfloat16 is slow without one of the last two."""


def describe_machine(num_threads: int, device: str, packages: Iterable[str]) -> dict[str, Any]:
    """Describe the machine, its load before the benchmark, and installed packages."""
    arguments = {"num_threads": num_threads, "device": device}
    matmul_gflops = run_worker(Request("matmul_speed", arguments, num_threads))
    matmul_gflops.pop("peak_bytes", None)
    return {
        "processor": _processor(),
        "num_cores": os.cpu_count(),
        "vector_flags": [flag for flag in VECTOR_FLAGS if flag in _cpu_flags()],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": device,
        "device_name": _device_name(device),
        "num_threads": num_threads,
        "load_before": round(os.getloadavg()[0], 2),
        "products_gflops": matmul_gflops,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in sorted({"torch", *packages})},
    }


def with_load_after(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Add the load after the benchmark to a machine's description."""
    return {**machine, "load_after": round(os.getloadavg()[0], 2)}


def _cpu_info(field: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _processor() -> str:
    name = _cpu_info("model name") or platform.processor()
    family, model = _cpu_info("cpu family"), _cpu_info("model\t")
    return f"{name} (family {family}, model {model})" if family else name


def _cpu_flags() -> list[str]:
    return _cpu_info("flags").split()


def _device_name(device: str) -> str | None:
    if device == "cpu":
        return None
    import torch

    return torch.cuda.get_device_name()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
