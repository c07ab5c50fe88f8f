"""What a plan of `cosmos_core.attention.ragged` computes, carried out on the CPU from what cuDNN is told.

Stands in for the module `cudnn` of nvidia-cudnn-frontend. A ragged tensor [sequences, heads, tokens, dim] has strides,
and for each sequence an offset in elements and a length (docs.nvidia.com/deeplearning/cudnn/frontend, "SDPA").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from tests.unit.attention.plain import attention_formula

data_type = SimpleNamespace(BFLOAT16="bfloat16", HALF="half", FLOAT="float", INT32="int32", INT64="int64")
heur_mode = SimpleNamespace(A="A", FALLBACK="fallback")
cudnnGraphNotSupportedError = NotImplementedError
__version__ = "1.0"


def backend_version() -> int:
    """Of cuDNN."""
    return 90000


def set_stream(handle: Any, stream: Any) -> None:
    """There is one."""


@dataclass(eq=False)
class Described:
    """A tensor of a plan."""

    dim: list[int] = field(default_factory=list)
    stride: list[int] = field(default_factory=list)
    data_type: str = ""
    uid: int = 0
    ragged_offset: Described | None = None
    output: bool = False

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("set_"):
            raise AttributeError(name)

        def setter(value: Any) -> Described:
            setattr(self, name.removeprefix("set_"), value)
            return self

        return setter


class pygraph:
    """A plan, made and carried out."""

    def __init__(self, **options: Any) -> None:
        self.steps: list[str] = []

    def tensor(self, **description: Any) -> Described:
        """One that is read."""
        return Described(**description)

    def sdpa(self, *, q: Any, k: Any, v: Any, generate_stats: bool, **options: Any) -> tuple[Described, Described]:
        """The forward pass."""
        assert generate_stats
        self.read, self.written, self.options = (q, k, v), (Described(), Described()), options
        return self.written

    def sdpa_backward(self, *, q: Any, k: Any, v: Any, o: Any, dO: Any, stats: Any, **options: Any) -> Any:
        """The backward pass."""
        self.read, self.written = (q, k, v, o, dO, stats), (Described(), Described(), Described())
        self.options = options
        return self.written

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.steps.append(name)

    def get_workspace_size(self) -> int:
        """Bytes."""
        return 5

    @torch.enable_grad()
    def execute(self, tensors: dict[int, torch.Tensor], workspace: torch.Tensor, handle: Any) -> None:
        """Sequence by sequence."""
        order = ["validate", "build_operation_graph", "create_execution_plans", "check_support", "build_plans"]
        assert self.steps == order
        assert workspace.numel() >= 5
        assert all(x.output for x in self.written)
        self.tensors = tensors
        for place in range(self.read[0].dim[0]):
            parts = [self._part(x, place).clone().requires_grad_() for x in self.read]
            causal = self.options["diagonal_band_right_bound"] == 0
            assert self.options["attn_scale"] == parts[0].shape[-1] ** -0.5
            assert self.options["use_padding_mask"]
            out = attention_formula(*parts[:3], causal=causal)
            if len(self.written) == 2:
                found = [out, self._lse(parts[0], parts[1], causal)]
            else:
                assert torch.allclose(parts[3], out, atol=1e-5)
                assert torch.allclose(parts[5], self._lse(parts[0], parts[1], causal), atol=1e-5)
                self._has_room()
                found = list(torch.autograd.grad(out, parts[:3], parts[4]))
            for described, value in zip(self.written, found, strict=True):
                self._part(described, place).copy_(value.detach())

    def _part(self, described: Described, place: int) -> torch.Tensor:
        """Tokens of a sequence: [tokens, heads, dim]."""
        assert described.ragged_offset is not None
        assert described.ragged_offset.dim == [described.dim[0] + 1, 1, 1, 1]
        of_keys = any(described is x for x in (*self.read[1:3], *self.written[1:3])) and described.dim[3] > 1
        lengths = self.options["seq_len_kv" if of_keys else "seq_len_q"]
        tokens = int(self.tensors[lengths.uid][place])
        assert tokens <= described.dim[2]
        _, heads, _, dim = described.dim
        first = int(self.tensors[described.ragged_offset.uid][place])
        _, of_head, of_token, of_dim = described.stride
        whole = self.tensors[described.uid].view(-1)
        return whole.as_strided((tokens, heads, dim), (of_token, of_head, of_dim), first)

    def _has_room(self) -> None:
        for name, side in (("max_total_seq_len_q", "seq_len_q"), ("max_total_seq_len_kv", "seq_len_kv")):
            assert self.options[name] >= int(self.tensors[self.options[side].uid].sum())

    def _lse(self, q: torch.Tensor, k: torch.Tensor, causal: bool) -> torch.Tensor:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        scores = torch.einsum("qhd,khd->qhk", q, k) * q.shape[-1] ** -0.5
        if causal:
            scores = scores.masked_fill(torch.ones(len(q), len(k)).triu(1).bool()[:, None], -torch.inf)
        return scores.logsumexp(-1, keepdim=True)
