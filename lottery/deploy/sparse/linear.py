"""A linear layer that computes with a sparse matrix, and what each format of matrix asks for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = (4, 8, 16, 32)
"""Sides of the square blocks that are tried; MKL takes no others than square ones."""

_CAPABILITY = (8, 0)
_ROWS, _COLUMNS = 32, 64  # a 2:4 matrix of 16 bits is a multiple of these


class SparseLinear(nn.Module):
    """x W^T + b with W in CSR or BSR, for inference.

    W is a buffer: it gets no gradient, and is none of the `parameters`. It moves with `to`, and goes through
    `state_dict` and `torch.save`; safetensors, `torch.export` and ONNX cannot hold it.

    Args:
        weight: (out, in), in CSR or BSR.
        bias: (out,), or None.

    Example:
        >>> dense = nn.Linear(4, 2)
        >>> _ = nn.init.sparse_(dense.weight, 0.5)
        >>> sparse = SparseLinear(csr(dense.weight), dense.bias)
        >>> x = torch.randn(5, 3, 4)
        >>> torch.allclose(sparse(x), dense(x), atol=1e-6)
        True
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        if bias is None:
            bias = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias.detach())
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        rows = x.reshape(-1, self.in_features)
        if len(rows) == 1:
            y = torch.addmv(self.bias, self.weight, rows[0])
        else:
            y = torch.addmm(self.bias[:, None], self.weight, rows.T).T.contiguous()
        return y.reshape(*x.shape[:-1], self.out_features)

    def __deepcopy__(self, memo: dict[int, object]) -> SparseLinear:
        # torch cannot deep-copy sparse matrices
        return type(self)(self.weight.clone(), self.bias.clone())

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, nnz={self.weight._nnz()}"


class TwoFourLinear(SparseLinear):
    """x W^T + b with W in torch's 2:4 semi-structured format, as `two_four` gives it."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, 2:4"


def csr(weight: Tensor) -> Tensor:
    """A matrix in compressed sparse rows, with the 32-bit indices that libraries compute with."""
    with quiet():
        found = weight.detach().to_sparse_csr()
        return torch.sparse_csr_tensor(
            found.crow_indices().int(), found.col_indices().int(), found.values(), found.shape, check_invariants=False
        )


def bsr(weight: Tensor, side: int) -> Tensor:
    """A matrix in rows of square blocks; every block that has a non-zero is stored whole.

    Raises:
        ValueError: the side does not divide the matrix.
    """
    if any(n % side for n in weight.shape):
        raise ValueError(f"blocks of {side} x {side} do not divide {tuple(weight.shape)}")
    with quiet():
        found = weight.detach().to_sparse_bsr((side, side))
        return torch.sparse_bsr_tensor(
            found.crow_indices().int(), found.col_indices().int(), found.values(), found.shape, check_invariants=False
        )


def two_four(weight: Tensor) -> Tensor:
    """A matrix in torch's 2:4 semi-structured format, which sparse tensor cores read.

    Raises:
        ValueError: the device or the matrix has not what that takes; the message says what is missing.
    """
    if missing := lacking(weight.device) or unlike_two_four(weight):
        raise ValueError(missing)
    with quiet():
        return torch.sparse.to_sparse_semi_structured(weight.detach().contiguous())


def lacking(device: torch.device) -> str:
    """What a device lacks to compute with 2:4 matrices, in words; empty where it lacks nothing.

    Source: Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, section 3: sparse tensor cores came with
    NVIDIA's Ampere, compute capability 8.0.
    """
    needed = "2:4 needs an NVIDIA GPU of compute capability 8.0 or more (Ampere)"
    if device.type != "cuda" or torch.version.cuda is None:
        return f"{needed}; the weights are on {device}"
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return f"{needed}; {device} is {name}, {capability[0]}.{capability[1]}"
    return ""


def unlike_two_four(weight: Tensor) -> str:
    """What keeps a weight from being a 2:4 matrix, in words; empty where nothing does."""
    if weight.dtype not in (torch.float16, torch.bfloat16):
        return f"2:4 needs float16 or bfloat16, not {str(weight.dtype).removeprefix('torch.')}: module.half()"
    rows, columns = weight.shape
    if rows % _ROWS or columns % _COLUMNS:
        return f"2:4 needs multiples of {_ROWS} x {_COLUMNS}, not {rows} x {columns}"
    most = int((weight != 0).reshape(-1, 4).sum(1).max())
    if most > 2:
        return f"2:4 needs at most 2 non-zeros in each 4 inputs; there are {most} (structure n:m prunes so)"
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warnings that sparse formats are in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse .* support is in beta|.*SparseSemiStructuredTensor is in prototype"
        )
        yield
