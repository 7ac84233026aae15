"""Where a run computes: on a CUDA device that it leases, or on the CPU.

Snakemake counts GPUs but assigns none, so the jobs on one machine agree among themselves: each GPU
has a lock file for each run that may share it, and a run locks one of them. The system releases a
lock when its process ends, however it ends.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from filelock import BaseFileLock, FileLock, Timeout

from vaelab.settings.config import Config
from vaelab.training.device import Compute, configure_process, first_line, resolve_compute
from vaelab.training.termination import end_if_asked
from vaelab.util.errors import VaelabError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

POLL_SECONDS = 0.5
# As many as PyTorch has streams for each GPU, and CUDA connections.
MOST_QUEUES = 32
_IDLE_STREAMS: dict[int, list[torch.cuda.Stream]] = {}
# Exists where the kernel has NVIDIA's driver.
CONTROL_FILE = Path("/dev/nvidiactl")

# cuBLAS cannot be initialised where no memory is left for it.
_MEMORY = ("out of memory", "ALLOC_FAILED", "NOT_INITIALIZED")
_DRIVER = (
    "driver",
    "initialization",
    "no kernel image",
    "no CUDA-capable device",
    "busy or unavailable",
)


def lease_folder() -> Path:
    """Folder of this user's locks, on this machine (GPUs are not shared between machines)."""
    return Path(tempfile.gettempdir()) / f"vaelab-gpu-{os.getuid()}"


def visible_gpus() -> list[str]:
    """UUIDs of the CUDA devices that this process sees, in PyTorch's order.

    Devices left out of CUDA_VISIBLE_DEVICES are not among them. A UUID means the same GPU to
    every process; an index may not, where each job sees only the GPUs that it was given.
    """
    return [
        str(torch.cuda.get_device_properties(index).uuid)
        for index in range(torch.cuda.device_count())
    ]


def _on_gpus(config: Config) -> bool:
    if config.device == "cpu":
        return False
    # CUDA reads this when it starts, which is here. By default queues of kernels share eight
    # connections to the GPU, and those that share one wait for each other.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", str(MOST_QUEUES))
    return torch.cuda.is_available()


def places(config: Config) -> int:
    """How many runs this process can work on at once: on a CPU one, which takes all its threads."""
    if not _on_gpus(config):
        return 1
    try:
        return config.runs_per_gpu * len(visible_gpus())
    except RuntimeError:
        # `compute_with` meets the same error and says what is wrong.
        return 1


def device_in_words(config: Config) -> str:
    """What runs compute on: the GPUs by name, or one core."""
    if not _on_gpus(config):
        return "one CPU core"
    count = torch.cuda.device_count()
    return f"{count} x {torch.cuda.get_device_name(0)}"


@contextmanager
def _own_stream(gpu: int) -> Iterator[None]:
    """Work in a queue of kernels that no other run of this process has meanwhile.

    So runs overlap on the GPU. PyTorch has 32 streams for each GPU and returns the same one again
    after 32 more, whether it is still in use or not; here a stream is used again once it is free.
    """
    idle = _IDLE_STREAMS.setdefault(gpu, [])
    try:
        stream = idle.pop()
    except IndexError:
        stream = torch.cuda.Stream(gpu)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        idle.append(stream)


@contextmanager
def lease(gpus: Sequence[str], runs_per_gpu: int, folder: Path) -> Iterator[int]:
    """Hold a place on one of the GPUs; wait while all are taken, or until asked to end.

    Args:
        gpus: names of the GPUs, the same for all processes.
        runs_per_gpu: places on each GPU. Free GPUs are taken before shared ones.
        folder: where the locks are; created if need be.

    Yields:
        The index in `gpus`.

    Raises:
        VaelabError: the folder cannot be used.
        SystemExit: asked to end while waiting.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = _take(gpus, runs_per_gpu, folder)
        if place is None:
            logger.info(
                f"all {len(gpus) * runs_per_gpu} places on {len(gpus)} GPUs are taken; waiting"
            )
        while place is None:
            end_if_asked()
            time.sleep(POLL_SECONDS)
            place = _take(gpus, runs_per_gpu, folder)
    except OSError as error:
        raise VaelabError(f"cannot lock GPUs in {folder}: {error.strerror or error}") from error
    index, lock = place
    try:
        yield index
    finally:
        lock.release()


def _take(gpus: Sequence[str], runs_per_gpu: int, folder: Path) -> tuple[int, BaseFileLock] | None:
    """Lock the first free place; its GPU's index and the lock."""
    for place in range(runs_per_gpu):
        for index, gpu in enumerate(gpus):
            lock = FileLock(folder / f"{gpu}.{place}", mode=0o600)
            with suppress(Timeout):
                lock.acquire(blocking=False)
                return index, lock
    return None


def compute_with(config: Config, threads: int, work: Callable[[Compute], Result]) -> Result:
    """Do some work on the configured device; with `device: auto` on the CPU if CUDA fails.

    Args:
        config: names device, precision and how many runs share a GPU.
        threads: CPU threads.
        work: called with the device and precision; with `device: auto` again, on the CPU, if it
            fails on the GPU.

    Raises:
        VaelabError: `device: cuda` and no device that works, or too little memory on it.
        SystemExit: asked to end while waiting for a GPU.
    """
    configure_process(threads)
    left_out = ""
    if _on_gpus(config):
        try:
            with lease(visible_gpus(), config.runs_per_gpu, lease_folder()) as index:
                torch.cuda.set_device(index)
                compute = resolve_compute(
                    f"cuda:{index}", config.precision, cuda_graphs=config.cuda_graphs
                )
                with _own_stream(index):
                    return work(compute)
        except RuntimeError as error:
            problem = _cuda_problem(error)
            if config.device == "cuda":
                if problem is None:
                    raise
                raise VaelabError(problem) from error
            left_out = problem or f"The GPU fails here: {first_line(error)}."
            logger.info(f"{left_out} Computing on the CPU instead.")
        # Give cached memory back to the GPU. (Until the error was handled, it kept alive what the
        # work had there.) The GPU may be broken, too.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
    elif config.device == "auto" and CONTROL_FILE.exists():
        logger.info(
            "there is an NVIDIA driver, but PyTorch "
            + (
                "sees no device (hidden by CUDA_VISIBLE_DEVICES, or too old a driver?)."
                if torch.version.cuda
                else "is a build for CPUs; envs/ has one for CUDA."
            )
            + " Computing on the CPU."
        )
    compute = resolve_compute("cpu" if config.device == "auto" else config.device, config.precision)
    return work(replace(compute, left_out=left_out))


def _cuda_problem(error: RuntimeError) -> str | None:
    """What a user can do about a CUDA error; None if a user can do nothing."""
    cause: BaseException | None = error
    # An error in a graph's capture may surface as another, from the capture's end.
    while cause is not None:
        text = str(cause)
        reason = first_line(cause)
        if isinstance(cause, torch.OutOfMemoryError) or any(word in text for word in _MEMORY):
            return (
                f"The GPU ran out of memory ({reason}). Other processes may hold it; "
                "lower runs_per_gpu, or use device: cpu."
            )
        if any(word in text for word in _DRIVER):
            return f"CUDA does not work here ({reason}). Check nvidia-smi, or use device: cpu."
        cause = cause.__cause__ or cause.__context__
    return None
