"""What is known of torch's functions, by the names that torch gives them: which keep units apart, and how."""

from __future__ import annotations

import re

# the functions whose features are followed, by the names that torch gives them; all others fix what they take
LAYERS = re.compile(r"linear|embedding|conv(_transpose)?[123]d")
PRODUCTS = re.compile(r"matmul|mm")  # a layer where the second factor is a weight
MOVES = re.compile(
    r"__getitem__|view|view_as|reshape|flatten|ravel|unflatten|permute|transpose|swapaxes|swapdims|movedim|t|T|mT|data"
    r"|squeeze|unsqueeze|cat|concat|concatenate|stack|hstack|chunk|split|tensor_split|unbind|narrow|select|index_select"
    r"|contiguous|clone|detach|expand|expand_as|broadcast_to|repeat|tile|repeat_interleave|roll|flip|unfold|pad"
    r"|pixel_shuffle|pixel_unshuffle|channel_shuffle"
)
ELEMENTWISE = re.compile(
    r"_*(add|sub|rsub|mul|multiply|div|true_divide|rdiv|maximum|minimum|where|lerp|addcmul|pow|square|sqrt|rsqrt|abs|neg|exp"
    r"|log|log1p|sign|sin|cos|erf|clamp|clamp_min|clamp_max|relu|relu6|leaky_relu|prelu|rrelu|elu|selu|celu|gelu|silu|mish"
    r"|softplus|softsign|sigmoid|logsigmoid|hardsigmoid|hardswish|tanh|hardtanh|tanhshrink|threshold|dropout[123]?d?"
    r"|alpha_dropout|feature_alpha_dropout|batch_norm|layer_norm|group_norm|instance_norm|rms_norm|float|double|half"
    r"|bfloat16|to|type|type_as)_*"
)
PER_CHANNEL = re.compile(r"batch_norm|instance_norm|group_norm|prelu")  # dimension 1 has its own
MIXING = re.compile(r"layer_norm|group_norm|rms_norm")  # a unit's value needs the others
POOLS = re.compile(r"(?:adaptive_)?(?:max|avg|lp)_pool([123])d|interpolate|upsample")
REDUCTIONS = re.compile(r"mean|sum|amax|amin|max|min|std|var|logsumexp")
ALONG = re.compile(r"softmax|softmin|log_softmax|normalize|cumsum|cumprod")  # a value needs the others of a dimension
