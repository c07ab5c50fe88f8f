"""The only reader of the process environment."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from cosmos_core.config.cores import cores
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import as_number

__all__ = [
    "LaunchedRank",
    "Rendezvous",
    "child_environment",
    "disabled_plugins",
    "error_file",
    "fix_cublas_workspaces",
    "has_cublas_workspaces",
    "is_set",
    "job_environment",
    "keep_folder_from_children",
    "launched_rank",
    "lookup",
    "named_values",
    "output_root",
    "plain_output_requested",
    "prepare_device_memory",
    "prepare_threads",
    "rendezvous",
    "secrets_present",
    "threads_per_rank",
    "visible_devices",
]

MAX_PORT = 65535
_SAFE_PATH = {"PYTHONSAFEPATH": "1"}
BY_TORCHRUN = "torchrun sets it; without torchrun unset RANK and WORLD_SIZE"

_RECORDED = {
    "PWD", "DATASET_PATH", "BASE_CHECKPOINT_PATH", "WAN_VAE_PATH", "VIDEOPHYSICS_ROOT", "VLM_SAFETENSORS_PATH",
    "IMAGINAIRE_OUTPUT_ROOT", "HF_HOME", "CUDA_VISIBLE_DEVICES", "COSMOS_DISABLE_PLUGINS", "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF", "RANK", "LOCAL_RANK", "WORLD_SIZE",
    "SLURM_JOB_ID", "SLURM_JOB_NAME",
    "SLURM_NNODES", "SLURM_NTASKS", "SLURM_JOB_PARTITION", "NGC_JOB_ID", "NGC_ARRAY_SIZE",
}  # fmt: skip


@frozen
class LaunchedRank:
    """This process's rank under torchrun."""

    rank: int
    local_rank: int
    world: int
    local_world: int


@frozen
class Rendezvous:
    """Where the ranks of a launch find each other."""

    host: str
    port: int


def lookup(name: str) -> str | None:
    """The variable a recipe names in ``${oc.env:NAME}``; None when unset."""
    return os.environ.get(name)


def is_set(name: str) -> bool:
    """Whether a variable has a value; for secrets, whose values must not be read here."""
    return bool(os.environ.get(name))


def secrets_present() -> dict[str, bool]:
    """Which tokens are set; never their values."""
    return {name: is_set(name) for name in ("HF_TOKEN", "WANDB_API_KEY")}


def named_values() -> list[tuple[str, str]]:
    """Every variable and its value, to find secrets in texts; for `without_secrets` alone."""
    return list(os.environ.items())


def plain_output_requested() -> bool:
    """Whether the environment asks for plain lines: TERM is dumb or unset, NO_COLOR or CI is set."""
    return os.environ.get("TERM", "") in ("", "dumb", "unknown") or is_set("NO_COLOR") or is_set("CI")


def output_root() -> Path:
    """Parent of all run directories: IMAGINAIRE_OUTPUT_ROOT, by default ``outputs/train``."""
    return Path(os.environ.get("IMAGINAIRE_OUTPUT_ROOT") or "outputs/train").expanduser()


def disabled_plugins() -> frozenset[str]:
    """Names in COSMOS_DISABLE_PLUGINS, comma-separated."""
    return frozenset(name.strip() for name in os.environ.get("COSMOS_DISABLE_PLUGINS", "").split(",") if name.strip())


def visible_devices() -> str | None:
    """CUDA_VISIBLE_DEVICES as set, or None."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def launched_rank() -> LaunchedRank | None:
    """This process's rank when torchrun started it, else None. Raises UserError for what is no number."""
    if not is_set("RANK") or not is_set("WORLD_SIZE"):
        return None
    world = _number("WORLD_SIZE", 1)
    return LaunchedRank(
        rank=_number("RANK", 0),
        local_rank=_number("LOCAL_RANK", 0),
        world=world,
        local_world=_number("LOCAL_WORLD_SIZE", world),
    )


def rendezvous() -> Rendezvous:
    """The store that torchrun's ranks share: MASTER_ADDR and MASTER_PORT. Raises UserError without them."""
    host, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    problems = [] if host else [Problem(message="MASTER_ADDR is not set", hint=BY_TORCHRUN)]
    number = as_number(port)
    if number is None or number > MAX_PORT:
        problems.append(Problem(message=f"MASTER_PORT is {port!r}, which is no port", hint=BY_TORCHRUN))
    if problems or number is None:
        raise UserError("this rank does not know where to meet the others", problems)
    return Rendezvous(host, number)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    number = as_number(text)
    if number is None:
        hint = f"torchrun sets it; `unset {name}` for a run without torchrun"
        raise UserError(f"{name} is no rank or size", [Problem(message=f"{name} is {text!r:.80}", hint=hint)])
    return number


def error_file() -> Path | None:
    """Where torchrun expects this rank to say why it failed; None when torchrun did not ask."""
    name = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(name) if name else None


def job_environment() -> dict[str, str]:
    """The environment to record: an allow-list."""
    return {name: value for name, value in sorted(os.environ.items()) if name in _RECORDED}


def prepare_threads() -> None:
    """Let idle compute threads spin for a moment, then sleep; must run before torch is imported.

    Threads that spin for long take cores from decoding and make a step several times slower; threads that sleep at once
    must be woken for each of a small model's many operations, which costs a third of the step. A policy that the user
    set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def prepare_device_memory() -> None:
    """Let blocks of a GPU's memory grow; must run before CUDA starts. What the user set is kept.

    Packs differ in size. Blocks of fixed sizes that fit no later pack stay behind and fill the card: 77 GiB were taken
    where 57 were in use.
    """
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # The name before torch 2.9.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def has_cublas_workspaces() -> bool:
    """Whether cuBLAS is told to use workspaces of fixed sizes; without them the last bits of its results may differ."""
    return os.environ.get("CUBLAS_WORKSPACE_CONFIG") in (":4096:8", ":16:8")


def fix_cublas_workspaces() -> None:
    """Tell cuBLAS so; must run before CUDA starts. What the user set is kept."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def threads_per_rank(ranks: int) -> dict[str, str]:
    """OMP_NUM_THREADS for `ranks` processes that share this machine's cores; nothing when the user has set it.

    Without it torchrun gives every rank one thread, and says so at length.
    """
    if is_set("OMP_NUM_THREADS"):
        return {}
    return {"OMP_NUM_THREADS": str(max(cores() // ranks, 1))}


def child_environment(**changes: str) -> dict[str, str]:
    """The whole environment with `changes`, for processes started from here."""
    return {**os.environ, **_SAFE_PATH, **changes}


def keep_folder_from_children() -> None:
    """Let processes started from here import nothing from the current folder, as the command `cosmos` does itself.

    Python looks there first for ``-m`` and ``-c``, so a file that is named like a module, such as ``queue.py``, would
    be imported in its place.
    """
    os.environ.update(_SAFE_PATH)
