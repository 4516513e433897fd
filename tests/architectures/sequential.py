"""Networks for words and other sequences: recurrent ones and transformers, small."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures.made import Made, Then, architecture, sequences, several, tokens


class TextConvolutions(nn.Module):
    """Kim (2014): windows of several widths over words, the greatest over time."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.windows = nn.ModuleList([nn.Conv1d(8, 6, k) for k in (2, 3, 4)])
        self.output = nn.Linear(18, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x).transpose(1, 2)
        return self.output(torch.cat([F.relu(window(x)).max(dim=2).values for window in self.windows], 1))


@architecture
def text_convolutions() -> Made:
    return TextConvolutions(), tokens()


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: bool | int) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(20, 8), kind(8, 12, batch_first=True, **options)
        self.output = nn.Sequential(
            nn.Linear(24 if options.get("bidirectional") else 12, 16), nn.ReLU(), nn.Linear(16, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.rnn(self.words(x))[0][:, -1])


@architecture
def lstm() -> Made:
    return Recurrent(nn.LSTM, num_layers=2), tokens()


@architecture
def gru() -> Made:
    return Recurrent(nn.GRU), tokens()


@architecture
def bidirectional_lstm() -> Made:
    return Recurrent(nn.LSTM, bidirectional=True), tokens()


class OwnCell(nn.Module):
    """A gated recurrent unit, written with linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.update, self.reset, self.state = nn.Linear(16, 10), nn.Linear(16, 10), nn.Linear(16, 10)
        self.output = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 10)
        for step in x.unbind(1):
            both = torch.cat([step, h], 1)
            z, r = torch.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
            h = (1 - z) * h + z * torch.tanh(self.state(torch.cat([step, r * h], 1)))
        return self.output(h)


@architecture
def own_cell() -> Made:
    return OwnCell(), sequences(6)


class EncoderDecoder(nn.Module):
    """Sequence to sequence with GRUs and additive attention (Bahdanau et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.encoder, self.decoder = nn.GRU(8, 12, batch_first=True), nn.GRU(8, 12, batch_first=True)
        self.query, self.key, self.energy = nn.Linear(12, 10), nn.Linear(12, 10), nn.Linear(10, 1)
        self.output = nn.Linear(24, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        seen, last = self.encoder(self.words(source))
        states, _ = self.decoder(self.words(target), last)
        energy = self.energy(torch.tanh(self.query(states)[:, :, None] + self.key(seen)[:, None])).squeeze(-1)
        return self.output(torch.cat([states, energy.softmax(-1) @ seen], -1))


@architecture
def encoder_decoder() -> Made:
    return EncoderDecoder(), several(tokens(6), tokens(4))


@architecture
def transformer_encoder() -> Made:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(5, 16), encoder, Then(nn.Linear(16, 3), lambda x: x.mean(1))), sequences(5)


@architecture
def transformer() -> Made:
    return nn.Transformer(16, 4, 1, 1, 32, batch_first=True), several(sequences(16, 6), sequences(16, 4))


class Heads(nn.Module):
    """Causal attention through SDPA: fused projections, or apart with fewer heads of keys and values."""

    def __init__(self, width: int, heads: int, kv_heads: int | None = None) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads or heads, width // heads
        self.fused = nn.Linear(width, 3 * width) if kv_heads is None else None
        if kv_heads is not None:
            self.q, self.k, self.v = (nn.Linear(width, n * self.size, bias=False) for n in (heads, kv_heads, kv_heads))
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        if self.fused is not None:
            q, k, v = self.fused(x).reshape(batch, length, 3, -1, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (f(x).view(batch, length, -1, self.size).transpose(1, 2) for f in (self.q, self.k, self.v))
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(y.transpose(1, 2).flatten(2))


class GPTBlock(nn.Module):
    def __init__(self, width: int, kv_heads: int | None = None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Heads(width, 4, kv_heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """A language model with learned positions and a tied head."""

    def __init__(self, kv_heads: int | None = None) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(16, 16)
        self.blocks = nn.Sequential(GPTBlock(16, kv_heads), GPTBlock(16, kv_heads))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.words(x) + self.places(torch.arange(x.shape[1])))))


@architecture
def gpt() -> Made:
    return GPT(), tokens()


@architecture
def grouped_query_attention() -> Made:
    return GPT(kv_heads=2), tokens()


class SwiGLU(nn.Module):
    """The feed-forward layer of Shazeer (2020), after root mean square normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, 24, bias=False), nn.Linear(width, 24, bias=False)
        self.down, self.scale = nn.Linear(24, width, bias=False), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


@architecture
def gated_feed_forward() -> Made:
    return nn.Sequential(nn.Linear(5, 8), SwiGLU(8), SwiGLU(8), nn.Linear(8, 3)), sequences(5)


class PlainAttention(nn.Module):
    """Vaswani et al. (2017), written out: products, a softmax, products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.output, self.heads = nn.Linear(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.output((weights @ v).transpose(1, 2).flatten(2))


@architecture
def plain_attention() -> Made:
    layers = [PlainAttention(16, 4), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 3)]
    return nn.Sequential(nn.Linear(5, 16), *layers), sequences(5)


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. (2021), with `nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.first, self.places = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.attention, self.norm = nn.MultiheadAttention(16, 4, batch_first=True), nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.places
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(x))[:, 0])


@architecture
def vision_transformer() -> Made:
    return VisionTransformer(), lambda batch, more: torch.randn(batch, 3, 16, 16)


class MixerBlock(nn.Module):
    """Tolstikhin et al. (2021)."""

    def __init__(self, places: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens = nn.Sequential(nn.Linear(places, 12), nn.GELU(), nn.Linear(12, places))
        self.channels = nn.Sequential(nn.Linear(channels, 32), nn.GELU(), nn.Linear(32, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


@architecture
def mixer() -> Made:
    layers = [nn.Linear(6, 16), MixerBlock(8, 16), MixerBlock(8, 16), Then(nn.Linear(16, 3), lambda x: x.mean(1))]
    return nn.Sequential(*layers), lambda batch, more: torch.randn(batch, 8, 6)


class SpatialGating(nn.Module):
    """gMLP (Liu et al. 2021)."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width, 32), nn.Linear(16, width)
        self.places = nn.Conv1d(places, places, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = F.gelu(self.enter(x)).chunk(2, -1)
        return x + self.leave(u * self.places(v))


@architecture
def gated_mlp() -> Made:
    return nn.Sequential(SpatialGating(8, 6), SpatialGating(8, 6), nn.Linear(6, 3)), lambda n, _: torch.randn(n, 8, 6)
