"""Solves the device mesh: shard x replicate x context = number of processes."""

from __future__ import annotations

from cosmos_core.config.model import Parallelism
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.plan import Degrees

__all__ = ["solve_degrees"]


def solve_degrees(parallelism: Parallelism, world: int) -> Degrees:
    """Fill in the -1 among shard and replicate. Raises UserError when nothing fits, naming degrees that would."""
    shard, replicate = parallelism.data_parallel_shard_degree, parallelism.data_parallel_replicate_degree
    context = parallelism.context_parallel_shard_degree
    problems: list[Problem] = []
    for name, degree in (("shard", shard), ("replicate", replicate)):
        if degree == 0:
            key = f"model.parallelism.data_parallel_{name}_degree"
            problems.append(Problem(message="must be -1 or at least 1; got 0", key=key))
    if parallelism.cfg_parallel_shard_degree != 1:
        key = "model.parallelism.cfg_parallel_shard_degree"
        problems.append(Problem(message="must be 1 in training", key=key, hint="set it to 1"))
    if problems:
        raise UserError("the device mesh cannot be built; nothing was started", problems)
    if shard == -1 and replicate == -1:
        replicate = 1
    if shard == -1 and world % (replicate * context) == 0:
        shard = world // (replicate * context)
    elif replicate == -1 and world % (shard * context) == 0:
        replicate = world // (shard * context)
    if -1 in (shard, replicate) or shard * replicate * context != world:
        raise _does_not_fit(parallelism, world)
    return Degrees(replicate=replicate, shard=shard, context=context)


def _does_not_fit(parallelism: Parallelism, world: int) -> UserError:
    context = parallelism.context_parallel_shard_degree
    message = (
        f"shard {parallelism.data_parallel_shard_degree} x replicate {parallelism.data_parallel_replicate_degree} "
        f"x context {context} cannot be {world} processes"
    )
    if world % context == 0:
        hint = f"for {world} processes shard x replicate must be {world // context}; "
        hint += "data_parallel_shard_degree=-1 solves it"
    else:
        divisors = [str(degree) for degree in range(1, world + 1) if world % degree == 0]
        hint = f"for {world} processes context_parallel_shard_degree can be {', '.join(divisors)}"
    problem = Problem(message=message, key="model.parallelism", hint=hint)
    return UserError("the device mesh does not fit the number of processes; nothing was started", [problem])
