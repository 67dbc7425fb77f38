"""Where tensors live, and how many of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gigraph.errors import UserError

if TYPE_CHECKING:
    from gigraph.planning.config import Compute


def torch_device(compute: Compute) -> torch.device:
    """Return the torch device that the settings ask for, where float32 then means float32.

    Raises
    ------
    UserError
        If CUDA is asked for and there is none.
    """
    if compute.device == "cpu" or (compute.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("compute.device is cuda, but torch finds no CUDA device; set auto or cpu")
    # TF32, which torch takes for convolutions unless told, keeps 10 bits of a product's factors. On an H100 it put
    # relevances off by 1e-3 and attributions by 1e-2; without it they were within 1e-6 and 1e-3 of a CPU's.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda")


def room(memory: int) -> int:
    """Return how many bytes a job may hold on a GPU: `memory`, or a quarter of what is free there if that is more.

    A budget for a CPU, whose caches are small, would leave a GPU idle.
    """
    return max(memory, torch.cuda.mem_get_info()[0] // 4)


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes are free on a device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    found = [limit - used for limit, used in _limits()]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    return max(0, min(found)) if found else None


def _limits() -> Iterator[tuple[int, int]]:
    """Yield (bytes allowed, bytes held) of each control group that this process is in, as a cluster's jobs are."""
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()[-1].split("::")[-1].lstrip("/")
        for group in (folder := Path("/sys/fs/cgroup") / own, *folder.parents):
            if (group / "memory.max").is_file() and (limit := (group / "memory.max").read_text().strip()) != "max":
                held = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                yield int(limit), int(held["anon"])  # what files fill can be had back
    except (OSError, ValueError, KeyError):
        return


def as_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Return a float32 or int64 tensor of an array on a device."""
    tensor = torch.from_numpy(np.array(array))
    return tensor.to(device, torch.float32 if tensor.is_floating_point() else torch.int64)
