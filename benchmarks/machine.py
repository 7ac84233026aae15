"""The machine on which a measurement was made."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from vaelab.results.provenance import git_state, versions

# Instructions that decide the speed of matrix products, by their Linux names.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "bf16")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor(cpuinfo: str) -> tuple[str, list[str]]:
    """Model and notable instructions from the text of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", "")).split()
    model = fields.get("model name", platform.processor() or platform.machine())
    return model, [name for name in INSTRUCTIONS if name in flags]


def describe() -> dict[str, Any]:
    """Processor, cores, load and versions."""
    path = Path("/proc/cpuinfo")
    model, instructions = processor(path.read_text() if path.is_file() else "")
    return {
        "processor": model,
        "instructions": instructions,
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "git": git_state(),
    }


def in_words(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    instructions = ", ".join(machine["instructions"]) or "none of note"
    return (
        f"{machine['processor']}, {machine['cores']} core{'s' * (machine['cores'] > 1)} "
        f"({instructions}); "
        f"torch {machine['versions']['torch']}, Python {machine['versions']['python']}; "
        f"load {machine['load']:g} at the start"
    )
