"""Networks for sets, graphs, tables, fields and pairs, autoencoders, and layers that people write by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures.made import (
    Made,
    Plus,
    architecture,
    convolved,
    images,
    pooled,
    sequences,
    several,
    tokens,
    vectors,
)


@architecture
def perceptron() -> Made:
    layers = [nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(16, 3)), vectors(8)


@architecture
def residual_perceptron() -> Made:
    blocks = [Plus(nn.BatchNorm1d(16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)) for _ in range(2)]
    return nn.Sequential(nn.Linear(8, 16), *blocks, nn.Linear(16, 3)), vectors(8)


class OwnLayer(nn.Module):
    """A layer by hand: ``x @ weight + bias``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) / 4), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


@architecture
def own_layers() -> Made:
    return nn.Sequential(OwnLayer(8, 16), nn.ReLU(), OwnLayer(16, 12), nn.Tanh(), nn.Linear(12, 3)), vectors(8)


class Added(OwnLayer):
    """GPT-2's Conv1D."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


@architecture
def addmm_layers() -> Made:
    return nn.Sequential(nn.Linear(5, 8), Plus(Added(8, 24), nn.GELU(), Added(24, 8)), nn.Linear(8, 3)), sequences(5)


class Contracted(OwnLayer):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bti,io->bto", x, self.weight) + self.bias


@architecture
def einsum_layers() -> Made:
    return nn.Sequential(Contracted(5, 12), nn.ReLU(), Contracted(12, 8), nn.ReLU(), nn.Linear(8, 3)), sequences(5)


class Highway(nn.Module):
    """Srivastava et al. (2015)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.plain, self.gate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        t = torch.sigmoid(self.gate(x))
        return t * F.relu(self.plain(x)) + (1 - t) * x


@architecture
def highway() -> Made:
    return nn.Sequential(nn.Linear(8, 16), Highway(16), Highway(16), nn.Linear(16, 3)), vectors(8)


class Maxout(nn.Module):
    """Goodfellow et al. (2013): the greatest of three."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pieces, self.outputs = nn.Linear(inputs, outputs * 3), outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.pieces(x).view(len(x), -1, 3).amax(2)


@architecture
def maxout() -> Made:
    return nn.Sequential(Maxout(8, 12), Maxout(12, 12), nn.Linear(12, 3)), vectors(8)


class DeepSet(nn.Module):
    """Zaheer et al. (2017): a sum over the members of a set."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
        self.all, self.mean = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)), mean

    def forward(self, x: Tensor) -> Tensor:
        x = self.each(x)
        return self.all(x.mean(1) if self.mean else x.sum(1))


@architecture
def deep_set() -> Made:
    return DeepSet(mean=False), sequences(4)


@architecture
def deep_set_of_means() -> Made:
    return DeepSet(mean=True), sequences(4)


class PointNet(nn.Module):
    """Qi et al. (2017), with its transformation of the points."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU())
        self.matrix = nn.Linear(8, 9)
        self.each = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 24, 1), nn.ReLU())
        self.output = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.matrix(self.turn(x).amax(2)).view(-1, 3, 3)
        return self.output(self.each(torch.bmm(matrix, x)).amax(2))


@architecture
def pointnet() -> Made:
    return PointNet(), lambda batch, more: torch.randn(batch, 3, 10 + 4 * more)


class GraphConvolutions(nn.Module):
    """Kipf and Welling (2017): products with an adjacency matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.output = nn.Linear(4, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = F.relu(adjacency @ self.one(x))
        return self.output(F.relu(torch.bmm(adjacency, self.two(x))))


@architecture
def graph_convolutions() -> Made:
    return GraphConvolutions(), lambda n, more: (torch.randn(n, 6 + more, 4), torch.rand(n, 6 + more, 6 + more))


class MessagePassing(nn.Module):
    """Edges as lists of nodes (Gilmer et al. 2017): what a batch is has no axis."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.message, self.update = nn.Linear(4, 8), nn.Linear(16, 12), nn.Linear(20, 8)
        self.output = nn.Linear(8, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = F.relu(self.enter(x))
        sent = F.relu(self.message(torch.cat([x[edges[0]], x[edges[1]]], 1)))
        got = torch.zeros(len(x), sent.shape[1], dtype=x.dtype).index_add(0, edges[1], sent)
        return self.output(F.relu(self.update(torch.cat([x, got], 1))))


@architecture
def message_passing() -> Made:
    return MessagePassing(), lambda n, more: (torch.randn(6 + n, 4), torch.randint(6 + n, (2, 9 + more)))


class Siamese(nn.Module):
    """One tower for two images, and the distance between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(convolved(1, 8, stride=2), convolved(8, 16), pooled(16, 8))
        self.output = nn.Linear(8, 1)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.output((self.tower(one) - self.tower(other)).abs())


@architecture
def siamese() -> Made:
    return Siamese(), several(images(1), images(1))


class TwoTowers(nn.Module):
    """Similarity of two towers, through a bilinear form."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8))
        self.right = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8))
        self.similarity = nn.Bilinear(8, 8, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.similarity(torch.relu(self.left(left)), torch.relu(self.right(right)))


@architecture
def two_towers() -> Made:
    return TwoTowers(), several(vectors(6), vectors(5))


class Contrastive(nn.Module):
    """CLIP's (Radford et al. 2021): cosines between all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8))
        self.right = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8))
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        left, right = F.normalize(self.left(left), dim=-1), F.normalize(self.right(right), dim=-1)
        return self.temperature.exp() * left @ right.T


@architecture
def contrastive() -> Made:
    return Contrastive(), several(vectors(6), vectors(5))


class RadianceField(nn.Module):
    """NeRF's perceptron (Mildenhall et al. 2020): Fourier features, and a skip by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(18, 24), nn.Linear(24, 24)
        self.three, self.density = nn.Linear(24 + 18, 24), nn.Linear(24, 1)
        self.colour = nn.Sequential(nn.Linear(24 + 3, 12), nn.ReLU(), nn.Linear(12, 3), nn.Sigmoid())
        self.register_buffer("frequencies", 2.0 ** torch.arange(3))

    def forward(self, place: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        waves = (place[..., None] * self.frequencies).flatten(-2)
        x = torch.cat([waves.sin(), waves.cos()], -1)
        y = F.relu(self.three(torch.cat([F.relu(self.two(F.relu(self.one(x)))), x], -1)))
        return self.colour(torch.cat([y, view], -1)), F.softplus(self.density(y))


@architecture
def radiance_field() -> Made:
    return RadianceField(), several(sequences(3), sequences(3))


class Sines(nn.Module):
    """SIREN (Sitzmann et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 16)])
        self.output = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return self.output(x)


@architecture
def sines() -> Made:
    return Sines(), vectors(2)


class Recommender(nn.Module):
    """DLRM (Naumov et al. 2019): embeddings, and the products between all pairs of features."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(20, 8) for _ in range(3)])
        self.dense = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 16, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        dense = self.dense(numbers)
        features = torch.stack([dense, *(table(words[:, k]) for k, table in enumerate(self.tables))], 1)
        pairs = torch.bmm(features, features.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([dense, pairs], 1))


@architecture
def recommender() -> Made:
    return Recommender(), several(vectors(5), lambda batch, _: torch.randint(20, (batch, 3)))


class WideAndDeep(nn.Module):
    """Cheng et al. (2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.wide = nn.EmbeddingBag(20, 8, mode="mean"), nn.Linear(5, 3)
        self.deep = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        return self.wide(numbers) + self.deep(torch.cat([numbers, self.words(words)], 1))


@architecture
def wide_and_deep() -> Made:
    return WideAndDeep(), several(vectors(5), tokens())


class Mixture(nn.Module):
    """Experts, all of them, weighted by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 3)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6)) for _ in range(3)])
        self.output = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        return self.output(sum(weights[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts)))


@architecture
def mixture_of_experts() -> Made:
    return Mixture(), vectors(8)


@architecture
def autoencoder() -> Made:
    encoder = [convolved(1, 8, stride=2), convolved(8, 4, stride=2)]
    decoder = [nn.ConvTranspose2d(4, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 1, 2, 2)]
    return nn.Sequential(*encoder, *decoder), images(1)


class TiedAutoencoder(nn.Module):
    """The decoder's weight is the encoder's, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 8) / 3)
        self.enter, self.leave = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(x, self.weight, self.enter)), self.weight.T, self.leave)


@architecture
def tied_autoencoder() -> Made:
    return TiedAutoencoder(), vectors(8)


class Variational(nn.Module):
    """Kingma and Welling (2014); in eval mode the mean is decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 24), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(24, 6), nn.Linear(24, 6)
        self.decoder = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return self.decoder(mean + noise * (log_variance / 2).exp()), mean, log_variance


@architecture
def variational_autoencoder() -> Made:
    return Variational(), vectors(8)


class Iterated(nn.Module):
    """One block, four times, as the steps of a differential equation (Chen et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.field = nn.Linear(6, 12), nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 12))
        self.output = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for _ in range(4):
            x = x + 0.25 * self.field(x)
        return self.output(x)


@architecture
def iterated() -> Made:
    return Iterated(), vectors(6)


class ActorCritic(nn.Module):
    """A policy and a value over one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 16), nn.Tanh())
        self.policy, self.value = nn.Linear(16, 2), nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x)
        return self.policy(x).log_softmax(-1), self.value(x).squeeze(-1)


@architecture
def actor_critic() -> Made:
    return ActorCritic(), vectors(4)


class Conditioned(nn.Module):
    """Feature-wise modulation (Perez et al. 2018): one network scales and shifts the channels of another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = convolved(3, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.film, self.head = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 16)), pooled(8)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).chunk(2, 1)
        y = self.conv(self.stem(x))
        return self.head(F.relu(y * (1 + scale[:, :, None, None]) + shift[:, :, None, None]))


@architecture
def feature_modulation() -> Made:
    return Conditioned(), several(images(), vectors(5))
