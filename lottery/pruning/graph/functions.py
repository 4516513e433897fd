"""What is known of torch's functions, by the names that torch gives them: which keep units apart, and how."""

from __future__ import annotations

import re
from typing import Any

import torch

# the functions whose features are followed, by the names that torch gives them; all others fix what they take
LAYERS = re.compile(r"linear|embedding(_bag)?|conv(_transpose)?[123]d")
RECURRENT = re.compile(r"lstm|gru|rnn_(tanh|relu)")
CELLS = re.compile(r"(lstm|gru|rnn_tanh|rnn_relu)_cell")
PRODUCTS = re.compile(r"matmul|b?mm|addmm")  # a layer where the second factor is a weight
SIZED = re.compile(r"view|reshape|unflatten|expand|broadcast_to|split|split_with_sizes")  # may be given units' sizes
MOVES = re.compile(
    r"__getitem__|view|view_as|reshape|reshape_as|flatten|ravel|unflatten|permute|transpose|swapaxes|swapdims|movedim|t|T|mT|data"
    r"|squeeze|unsqueeze|cat|concat|concatenate|stack|hstack|chunk|split|tensor_split|unbind|narrow|select|index_select"
    r"|contiguous|clone|detach|expand|expand_as|broadcast_to|repeat|tile|repeat_interleave|roll|flip|unfold|pad"
    r"|pixel_shuffle|pixel_unshuffle|channel_shuffle"
)
ELEMENTWISE = re.compile(
    r"_*(add|sub|rsub|mul|multiply|div|true_divide|rdiv|maximum|minimum|where|lerp|addcmul|pow|square|sqrt|rsqrt|abs|neg|exp"
    r"|log|log1p|sign|sin|cos|erf|clamp|clamp_min|clamp_max|relu|relu6|leaky_relu|prelu|rrelu|elu|selu|celu|gelu|silu|mish"
    r"|softplus|softsign|sigmoid|logsigmoid|hardsigmoid|hardswish|tanh|hardtanh|tanhshrink|threshold|dropout[123]?d?"
    r"|alpha_dropout|feature_alpha_dropout|batch_norm|layer_norm|group_norm|instance_norm|rms_norm|float|double|half"
    r"|bfloat16|to|type|type_as|masked_fill)_*"
)
FACTORS = re.compile(
    r"_*(mul|multiply|div|true_divide|where|masked_fill)_*"
)  # zero stays zero, whatever comes beside it
CHOICES = re.compile(r"where|masked_fill_?")  # between values, by truth values
GATHERS = re.compile(r"gather|take_along_dim|index_add_?|index_copy_?|scatter_add_?|scatter_reduce_?|scatter_?")
PICKS = re.compile(r"__getitem__|index_select|repeat_interleave|gather|take_along_dim")  # places, by an index
PACKS = re.compile(r"_pack_padded_sequence|_pad_packed_sequence")
TURNS = re.compile(r"t|T|mT|transpose|swapaxes|swapdims|permute")
PER_CHANNEL = re.compile(r"batch_norm|instance_norm|group_norm|prelu")  # dimension 1 has its own
MIXING = re.compile(r"layer_norm|group_norm|rms_norm")  # a unit's value needs the others
POOLS = re.compile(r"(?:adaptive_)?(?:max|avg|lp)_pool([123])d|interpolate|upsample")
REDUCTIONS = re.compile(r"mean|sum|amax|amin|max|min|std|var|logsumexp")
COUNTS = re.compile(r"sum|logsumexp")  # adds up as many as there are
ALONG = re.compile(r"softmax|softmin|log_softmax|normalize|cumsum|cumprod")  # a value needs the others of a dimension
ATTENTION = re.compile(r"scaled_dot_product_attention")  # by heads
IN_PLACE = re.compile(r"__setitem__|.*[^_]_")
# what tells nothing of a tensor's values: functions, and the types of results; and what hands values to Python
CONSTANTS = re.compile(r"(zeros|ones|empty|full|rand|randn)_like|(new_)?(zeros|ones|empty|full)")
QUERIES = (int, str, torch.Size, torch.dtype, torch.device, torch.layout)
ARGUMENTS = ("input", "weight", "bias", "stride", "padding")  # of linear and conv
PRODUCT_ARGUMENTS = {  # as those of layers are called
    "matmul": {"input": "input", "other": "weight"},
    "mm": {"input": "input", "mat2": "weight"},
    "bmm": {"input": "input", "mat2": "weight"},
    "addmm": {"input": "bias", "mat1": "input", "mat2": "weight"},
}
VALUES = re.compile(r"__(bool|int|float|index|complex)__|item|tolist|numpy|equal")


def pads_with_constants(name: str, args: Any, kwargs: Any) -> bool:
    """Whether constants are put in that would look like labels."""
    named = {"pad": "value", "_pad_packed_sequence": "padding_value"}
    return name in named and bool(kwargs.get(named[name], args[3] if len(args) > 3 else 0))


def depends_on_size(name: str, args: Any, kwargs: Any) -> bool:
    """Whether constants give another result where the input is of another size, by more places or zeros beside them."""
    padded = name == "pad" and kwargs.get("mode", args[2] if len(args) > 2 else "constant") == "constant"
    return padded or name == "_pad_packed_sequence" or bool(COUNTS.fullmatch(name))


def is_padded(padding: object) -> bool:
    """Whether a convolution's argument puts zeros around its input."""
    if isinstance(padding, (list, tuple)):
        return any(padding)
    return padding not in (None, 0, "valid")


def limits_norms(args: Any, kwargs: Any) -> bool:
    """Whether an embedding scales its rows down to a length."""
    return kwargs.get("max_norm", args[3] if len(args) > 3 else None) is not None
