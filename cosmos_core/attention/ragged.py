"""Attention over packed sequences in one call, by cuDNN's kernel for ragged tensors.

cuDNN plans for every shape that it has not met, which takes longer than a layer. Of a ragged tensor, where sequences
begin is data, and what is left of the shape is rounded up here, so that packs of other lengths find the same plan. The
plans are made by the package nvidia-cudnn-frontend (docs.nvidia.com/deeplearning/cudnn/frontend, "SDPA").
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from enum import IntEnum, auto
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from attrs import frozen
from packaging.requirements import Requirement

from cosmos_core.attention.packed import PackedSequences, bucket

__all__ = ["CUDNN_FRONTEND", "RaggedHeads", "has_cudnn_frontend", "ragged_attention", "ragged_workspace"]

logger = logging.getLogger(__name__)

CUDNN_FRONTEND = "nvidia-cudnn-frontend>=1.18,<1.23"
"""As pyproject.toml has it. From 1.23 on no backward pass has a plan with cuDNN 9.19, which torch 2.11 brings."""
_WIDEST = 128
_TRIED = (8, 512)
"""Sequences, and tokens of each, of the pack for which plans are made to see whether there are any."""


class _Tensor(IntEnum):
    """What a plan reads and writes."""

    QUERY = auto()
    KEY = auto()
    VALUE = auto()
    OUT = auto()
    LSE = auto()
    GRAD_OUT = auto()
    GRAD_QUERY = auto()
    GRAD_KEY = auto()
    GRAD_VALUE = auto()
    QUERY_LENGTHS = auto()
    KEY_LENGTHS = auto()
    QUERY_BEGINS = auto()
    KEY_BEGINS = auto()
    LSE_BEGINS = auto()


@frozen
class RaggedHeads:
    """Of queries, and of keys and values, all of one dtype on one device."""

    heads: int
    kv_heads: int
    dim: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, q: torch.Tensor, k: torch.Tensor) -> RaggedHeads:
        """From q [N, heads, dim] and k [M, kv heads, dim]."""
        return cls(q.shape[1], k.shape[1], q.shape[2], q.dtype, q.device)

    @property
    def supported(self) -> bool:
        """Whether there are plans for them; a package that makes none for this cuDNN is warned of once."""
        fits = self.dtype in (torch.bfloat16, torch.float16) and self.dim % 8 == 0 and self.dim <= _WIDEST
        return fits and has_cudnn_frontend() and _has_plans(self)


@frozen
class _Shape:
    """What a plan of the forward pass is for."""

    of: RaggedHeads
    sequences: int
    longest_query: int
    longest_key: int
    causal: bool


@frozen
class _Plan:
    graph: Any
    workspace: int

    def run(self, tensors: Mapping[_Tensor, torch.Tensor], device: torch.device) -> None:
        """Fills those that it writes."""
        import cudnn

        # By its address a tensor of another device would be read, too.
        if any(tensor.device != device for tensor in tensors.values()):
            raise ValueError(f"attention on {device} over sequences that are not there")
        handle = _handle(device, threading.get_ident())
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream(device).cuda_stream)
        workspace = torch.empty(max(1, self.workspace), dtype=torch.uint8, device=device)
        self.graph.execute({int(name): tensor for name, tensor in tensors.items()}, workspace, handle=handle)


@cache
def has_cudnn_frontend() -> bool:
    """Whether nvidia-cudnn-frontend is installed, in a version that serves: older ones lack arguments."""
    requirement = Requirement(CUDNN_FRONTEND)
    try:
        return requirement.specifier.contains(version(requirement.name))
    except PackageNotFoundError:
        return False


def ragged_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    queries: PackedSequences,
    keys: PackedSequences,
    *,
    causal: bool,
) -> torch.Tensor:
    """Attend from q [N, heads, dim] to k and v [M, kv heads, dim], where `RaggedHeads.supported`; [N, heads, dim].

    Each sequence of `queries` attends to that of `keys` in the same place. causal: token by token, for equal lengths.
    """
    # cuDNN is given addresses alone, and would read what lies behind them.
    tokens = len(q), len(k), len(v)
    if tokens != (sum(queries.lengths), *(sum(keys.lengths),) * 2) or len(queries.lengths) != len(keys.lengths):
        raise ValueError(f"{tokens} queries, keys and values are not those of {queries.lengths} and {keys.lengths}")
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"queries, keys and values are of {q.dtype}, {k.dtype} and {v.dtype}, not of one dtype")
    mixed: torch.Tensor = _Ragged.apply(  # type: ignore[no-untyped-call]
        q.contiguous(), k.contiguous(), v.contiguous(), queries.filled, keys.filled, causal
    )
    return mixed


def ragged_workspace(heads: int, dim: int, queries: int, keys: int) -> int:
    """Bytes that the backward pass needs beside what it returns. queries, keys: tokens of a pack.

    In float32 the gradients of queries, and those of keys and values once for each head of queries.
    """
    return 4 * heads * dim * (bucket(queries) + 2 * bucket(keys))


class _Ragged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        queries: PackedSequences,
        keys: PackedSequences,
        causal: bool,
    ) -> torch.Tensor:
        shape = _shape(RaggedHeads.of(q, k), queries, keys, causal)
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
        tensors = {_Tensor.QUERY: q, _Tensor.KEY: k, _Tensor.VALUE: v, _Tensor.OUT: out, _Tensor.LSE: lse}
        _forward_plan(shape).run({**tensors, **_lengths(shape.of, queries, keys)}, q.device)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.shape, ctx.queries, ctx.keys = shape, queries, keys
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        gradients = [torch.empty_like(x) for x in (q, k, v)]
        tensors = {_Tensor.QUERY: q, _Tensor.KEY: k, _Tensor.VALUE: v, _Tensor.OUT: out, _Tensor.LSE: lse}
        tensors[_Tensor.GRAD_OUT] = grad.contiguous()
        tensors.update(zip((_Tensor.GRAD_QUERY, _Tensor.GRAD_KEY, _Tensor.GRAD_VALUE), gradients, strict=True))
        plan = _backward_plan(ctx.shape, bucket(len(q)), bucket(len(k)))
        plan.run({**tensors, **_lengths(ctx.shape.of, ctx.queries, ctx.keys)}, q.device)
        return (*gradients, None, None, None)


def _shape(of: RaggedHeads, queries: PackedSequences, keys: PackedSequences, causal: bool) -> _Shape:
    longest_query, longest_key = (bucket(max(1, x.max_seqlen)) for x in (queries, keys))
    return _Shape(of, len(queries.lengths), longest_query, longest_key, causal)


def _lengths(of: RaggedHeads, queries: PackedSequences, keys: PackedSequences) -> dict[_Tensor, torch.Tensor]:
    """Of each sequence: tokens, and elements before it in queries, in keys or values, and in the log-sum-exp."""
    first_query, first_key = (x.cu_seqlens.long() for x in (queries, keys))
    return {
        _Tensor.QUERY_LENGTHS: queries.seqlens,
        _Tensor.KEY_LENGTHS: keys.seqlens,
        _Tensor.QUERY_BEGINS: first_query * (of.heads * of.dim),
        _Tensor.KEY_BEGINS: first_key * (of.kv_heads * of.dim),
        _Tensor.LSE_BEGINS: first_query * of.heads,
    }


class _Graph:
    """A plan being made: its tensors are described to cuDNN one by one."""

    def __init__(self, shape: _Shape) -> None:
        import cudnn

        of, count = shape.of, shape.sequences
        self.shape, self._types = shape, cudnn.data_type
        self.dtype = cudnn.data_type.BFLOAT16 if of.dtype == torch.bfloat16 else cudnn.data_type.HALF
        self.graph = cudnn.pygraph(
            handle=_handle(of.device, threading.get_ident()),
            io_data_type=self.dtype,
            intermediate_data_type=cudnn.data_type.FLOAT,
            compute_data_type=cudnn.data_type.FLOAT,
        )
        integers = cudnn.data_type.INT32, cudnn.data_type.INT64
        self._query_lengths, self._key_lengths = (
            self._column(name, count, integers[0]) for name in (_Tensor.QUERY_LENGTHS, _Tensor.KEY_LENGTHS)
        )
        self._query_begins, self._key_begins, self._lse_begins = (
            self._column(name, count + 1, integers[1])
            for name in (_Tensor.QUERY_BEGINS, _Tensor.KEY_BEGINS, _Tensor.LSE_BEGINS)
        )
        # [sequences, heads, tokens, dim], in memory as [sequences, tokens, heads, dim].
        sizes = ((shape.longest_query, of.heads), (shape.longest_key, of.kv_heads))
        self._forms = [
            ([count, heads, tokens, of.dim], [tokens * heads * of.dim, of.dim, heads * of.dim, 1])
            for tokens, heads in sizes
        ]
        tokens, heads = sizes[0]
        self._lse_form = ([count, heads, tokens, 1], [tokens * heads, 1, heads, 1])

    @property
    def options(self) -> dict[str, Any]:
        """Of both passes."""
        return {
            "attn_scale": self.shape.of.dim**-0.5,
            "use_padding_mask": True,
            "seq_len_q": self._query_lengths,
            "seq_len_kv": self._key_lengths,
            "diagonal_band_right_bound": 0 if self.shape.causal else None,
        }

    def read(self, name: _Tensor) -> Any:
        """A tensor that the plan reads."""
        dim, stride = self._form(name)
        return self._describe(name, self.graph.tensor(dim=dim, stride=stride, data_type=self._dtype(name)))

    def write(self, name: _Tensor, tensor: Any) -> None:
        """A tensor that the plan writes."""
        dim, stride = self._form(name)
        tensor.set_output(True).set_dim(dim).set_stride(stride).set_data_type(self._dtype(name))
        self._describe(name, tensor)

    def plan(self) -> _Plan:
        """For everything described."""
        import cudnn

        self.graph.validate()
        self.graph.build_operation_graph()
        self.graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        self.graph.check_support()
        self.graph.build_plans()
        return _Plan(self.graph, self.graph.get_workspace_size())

    def _describe(self, name: _Tensor, tensor: Any) -> Any:
        begins = self._lse_begins if name == _Tensor.LSE else self._key_begins if _of_keys(name) else self._query_begins
        return tensor.set_uid(int(name)).set_ragged_offset(begins)

    def _form(self, name: _Tensor) -> tuple[list[int], list[int]]:
        return self._lse_form if name == _Tensor.LSE else self._forms[_of_keys(name)]

    def _dtype(self, name: _Tensor) -> Any:
        return self._types.FLOAT if name == _Tensor.LSE else self.dtype

    def _column(self, name: _Tensor, rows: int, dtype: Any) -> Any:
        return self.graph.tensor(dim=[rows, 1, 1, 1], stride=[1, 1, 1, 1], data_type=dtype).set_uid(int(name))


def _of_keys(name: _Tensor) -> bool:
    return name in (_Tensor.KEY, _Tensor.VALUE, _Tensor.GRAD_KEY, _Tensor.GRAD_VALUE)


@cache
def _forward_plan(shape: _Shape) -> _Plan:
    graph = _Graph(shape)
    q, k, v = (graph.read(name) for name in (_Tensor.QUERY, _Tensor.KEY, _Tensor.VALUE))
    out, lse = graph.graph.sdpa(q=q, k=k, v=v, generate_stats=True, **graph.options)
    graph.write(_Tensor.OUT, out)
    graph.write(_Tensor.LSE, lse)
    return graph.plan()


@cache
def _backward_plan(shape: _Shape, queries: int, keys: int) -> _Plan:
    """queries, keys: tokens of all sequences, or more, by which the workspace is measured."""
    graph = _Graph(shape)
    names = (_Tensor.QUERY, _Tensor.KEY, _Tensor.VALUE, _Tensor.OUT, _Tensor.GRAD_OUT, _Tensor.LSE)
    q, k, v, out, grad, lse = (graph.read(name) for name in names)
    totals = {"max_total_seq_len_q": queries, "max_total_seq_len_kv": keys}
    gradients = graph.graph.sdpa_backward(q=q, k=k, v=v, o=out, dO=grad, stats=lse, **totals, **graph.options)
    for name, gradient in zip((_Tensor.GRAD_QUERY, _Tensor.GRAD_KEY, _Tensor.GRAD_VALUE), gradients, strict=True):
        graph.write(name, gradient)
    return graph.plan()


@cache
def _has_plans(of: RaggedHeads) -> bool:
    try:
        import cudnn
    except (ImportError, OSError, AssertionError) as error:  # It asserts that there is one libcudnn.
        logger.warning("nvidia-cudnn-frontend cannot be imported, other kernels compute attention: %s", error)
        return False
    sequences, tokens = _TRIED
    try:
        for causal in (False, True):
            shape = _Shape(of, sequences, tokens, tokens, causal)
            _forward_plan(shape)
            _backward_plan(shape, sequences * tokens, sequences * tokens)
    except (RuntimeError, cudnn.cudnnGraphNotSupportedError) as error:
        logger.warning(
            "nvidia-cudnn-frontend %s has no plan for attention with cuDNN %s, other kernels compute it: %s",
            *(cudnn.__version__, cudnn.backend_version(), error),
        )
        return False
    return True


@cache
def _handle(device: torch.device, thread: int) -> Any:
    """Two threads may not use one at once; backward passes run in a thread of their own."""
    import cudnn

    with torch.cuda.device(device):
        return cudnn.create_handle()
