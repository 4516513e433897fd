"""Modules of other people's packages, made small by configuration; each is left out where its package is missing."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformance.data import CLASSES, INPUTS, Data, table
from conformance.modules import Classifier, image, module, tokens, unwrapped

# transformers


class Wrapped(Classifier):
    """A Hugging Face model that computes its own loss."""

    def loss(self, batch: Any) -> Tensor:
        x, y = unwrapped(batch)
        return self.net(input_ids=tokens(x), labels=y).loss

    def forward(self, x: Tensor) -> Tensor:
        return self.net(input_ids=tokens(x)).logits


def hugging_face(model: str, config: str, **arguments: Any) -> nn.Module:
    transformers = importlib.import_module("transformers")
    return getattr(transformers, model)(getattr(transformers, config)(**arguments))


SMALL = {
    "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 8, "max_position_embeddings": INPUTS, "num_labels": CLASSES,
}  # fmt: skip


@module(name="BERT", package="transformers", lacks="doubles")
def bert() -> Any:
    """`transformers.BertForSequenceClassification`"""
    return Wrapped(hugging_face("BertForSequenceClassification", "BertConfig", **SMALL))


@module(name="DistilBERT", package="transformers")
def distilbert() -> Any:
    """`transformers.DistilBertForSequenceClassification`"""
    return Wrapped(
        hugging_face(
            "DistilBertForSequenceClassification", "DistilBertConfig",
            vocab_size=10, dim=8, n_layers=1, n_heads=2, hidden_dim=8,
            max_position_embeddings=INPUTS, num_labels=CLASSES,
        )
    )  # fmt: skip


class Language(Wrapped):
    """Predicts tokens from tokens."""

    def loss(self, batch: Any) -> Tensor:
        x, _ = unwrapped(batch)
        return self.net(input_ids=tokens(x), labels=tokens(x)).loss


@module(name="GPT-2", package="transformers")
def gpt2() -> Any:
    """`transformers.GPT2LMHeadModel`: embedding and output are one matrix, layers are Conv1D"""
    return Language(
        hugging_face(
            "GPT2LMHeadModel", "GPT2Config",
            vocab_size=10, n_embd=8, n_layer=1, n_head=2, n_positions=INPUTS,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


@module(name="Llama", package="transformers")
def llama() -> Any:
    """`transformers.LlamaForCausalLM`: rotary embeddings, grouped queries"""
    small = {k: v for k, v in SMALL.items() if k != "num_labels"}
    return Language(
        hugging_face(
            "LlamaForCausalLM", "LlamaConfig", num_key_value_heads=1,
            bos_token_id=0, eos_token_id=0, **small,
        )
    )  # fmt: skip


@module(name="T5", package="transformers")
def t5() -> Any:
    """`transformers.T5ForConditionalGeneration`: an embedding under three names"""
    return Language(
        hugging_face(
            "T5ForConditionalGeneration", "T5Config",
            vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
            decoder_start_token_id=0, pad_token_id=0, dropout_rate=0.1,
        )
    )  # fmt: skip


class Pixels(Wrapped):
    def loss(self, batch: Any) -> Tensor:
        x, y = unwrapped(batch)
        return F.cross_entropy(self(x), y)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(pixel_values=image(x).repeat_interleave(4, 2)[:, :, :4].repeat(1, 1, 2, 2)).logits


@module(name="ViT", package="transformers")
def vit() -> Any:
    """`transformers.ViTForImageClassification`"""
    small = {k: v for k, v in SMALL.items() if k not in ("vocab_size", "max_position_embeddings")}
    return Pixels(
        hugging_face(
            "ViTForImageClassification", "ViTConfig",
            image_size=8, patch_size=4, num_channels=1, **small,
        )
    )  # fmt: skip


@module(name="ResNet", package="transformers", lacks="matrices")
def resnet() -> Any:
    """`transformers.ResNetForImageClassification`"""
    return Pixels(
        hugging_face(
            "ResNetForImageClassification", "ResNetConfig",
            num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1],
            layer_type="basic", num_labels=CLASSES,
        )
    )  # fmt: skip


# graphs


def graphs() -> Data:
    """Small rings with random features; PyTorch Geometric's own batches."""
    geometric = importlib.import_module("torch_geometric.data")
    ring = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])

    def of(samples: int, seed: int) -> Any:
        return [
            geometric.Data(x=x.view(4, 3), edge_index=ring, y=y.view(1))
            for x, y in zip(*table(samples, seed), strict=True)
        ]

    return Data(of(32, 0), of(16, 1), geometric.Batch.from_data_list)


class Graph(Classifier):
    """A convolution over graphs, pooled and classified."""

    def __init__(self, convolution: str, **arguments: Any) -> None:
        layers = importlib.import_module("torch_geometric.nn")
        if convolution == "GINConv":
            own = (nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU()),)
        else:
            own = (3, 6)
        super().__init__(getattr(layers, convolution)(*own, **arguments))
        self.head = nn.Linear(6 * arguments.get("heads", 1), CLASSES)
        self.pool = layers.global_mean_pool

    def forward(self, batch: Any) -> Tensor:
        hidden = self.net(batch.x, batch.edge_index).relu()
        return self.head(self.pool(hidden, batch.batch))

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch), batch.y)


def graph(name: str, what: str, convolution: str, **arguments: Any) -> None:
    def make() -> Any:
        return Graph(convolution, **arguments)

    make.__doc__ = f"`torch_geometric.nn.{convolution}`: {what}"
    module(name=name, package="torch_geometric", more=graphs, lacks="unwrap tensors doubles")(make)


graph("GCN", "graph convolution", "GCNConv", cached=False)
graph("GAT", "attention over edges", "GATv2Conv", heads=2)
graph("GIN", "a perceptron over sums", "GINConv", train_eps=True)
graph("GraphSAGE", "samples and aggregates", "SAGEConv")


# chemistry


@functools.cache
def molecules() -> Data:
    chemprop = importlib.import_module("chemprop.data")
    smiles = ["CCO", "CCN", "CCC", "CO", "CN", "c1ccccc1", "CC(=O)O", "CCCl"]

    def of(samples: int) -> Any:
        points = [chemprop.MoleculeDatapoint.from_smi(smiles[i % 8], [float(i % 5)]) for i in range(samples)]
        return chemprop.MoleculeDataset(points)

    return Data(of(32), of(16), chemprop.collate_batch)


@module(name="chemprop MPNN", package="chemprop", more=molecules, lacks="optimizer unwrap tensors doubles")
def message_passing() -> Any:
    """`chemprop.models.MPNN`: message passing over molecules, objects in its hyperparameters, a schedule of its own"""
    models, parts = map(importlib.import_module, ("chemprop.models", "chemprop.nn"))
    return models.MPNN(
        parts.BondMessagePassing(d_h=6, depth=2),
        parts.MeanAggregation(),
        parts.RegressionFFN(input_dim=6, hidden_dim=6),
        batch_norm=True,
        warmup_epochs=1,
    )


# forecasting


@functools.cache
def series() -> Any:
    import pandas as pd

    forecasting = importlib.import_module("pytorch_forecasting")
    frame = pd.DataFrame(
        {
            "time": list(range(20)) * 2,
            "group": ["a"] * 20 + ["b"] * 20,
            "value": table(40, 0)[0][:, 0].double().numpy() + 3,
        }
    )
    return forecasting.TimeSeriesDataSet(
        frame,
        time_idx="time",
        target="value",
        group_ids=["group"],
        max_encoder_length=4,
        max_prediction_length=1,
        time_varying_unknown_reals=["value"],
        static_categoricals=["group"],
        target_normalizer=forecasting.data.EncoderNormalizer(),
    )


def forecasting_data() -> Data:
    found = series()
    return Data(found, torch.utils.data.Subset(found, range(16)), found._collate_fn)


def forecaster(name: str, what: str, model: str, **arguments: Any) -> None:
    def make() -> Any:
        forecasting = importlib.import_module("pytorch_forecasting")
        values = {k: v() if callable(v) else v for k, v in arguments.items()}
        return getattr(forecasting, model).from_dataset(series(), learning_rate=1e-2, log_interval=-1, **values)

    make.__doc__ = f"`pytorch_forecasting.{model}`: {what}"
    module(
        name=name, package="pytorch_forecasting", more=forecasting_data,
        lacks="optimizer unwrap tensors doubles",
    )(make)  # fmt: skip


def quantiles() -> Any:
    return importlib.import_module("pytorch_forecasting.metrics").QuantileLoss([0.1, 0.5, 0.9])


forecaster(
    "TFT", "a temporal fusion transformer; its checkpoints hold losses and normalizers", "TemporalFusionTransformer",
    hidden_size=4, attention_head_size=1, hidden_continuous_size=2, lstm_layers=1, loss=quantiles, output_size=3,
)  # fmt: skip


# darts


@functools.cache
def windows() -> Any:
    """What darts' own data sets give."""
    darts = importlib.import_module("darts")
    values = table(50, 0)[0][:, 0].numpy()
    return darts.TimeSeries.from_values(values)


def darts_model(model: str, **arguments: Any) -> Any:
    given = {
        "input_chunk_length": 8, "output_chunk_length": 4, "random_state": 1,
        "optimizer_kwargs": {"lr": 1e-2},
    }  # fmt: skip
    return getattr(importlib.import_module("darts.models"), model)(**given, **arguments)


def darts_data() -> Data:
    source = importlib.import_module("darts.models.forecasting.torch_forecasting_model")
    model = darts_model("NLinearModel")
    samples = model._build_train_dataset([windows()], None, None, None, None)
    training, held_out = (torch.utils.data.Subset(samples, range(*r)) for r in ((32,), (23, 39)))
    return Data(training, held_out, source._batch_collate_fn_train)


def darts_module(name: str, what: str, model: str, **arguments: Any) -> None:
    def make() -> Any:
        source = importlib.import_module("darts.models.forecasting.torch_forecasting_model")
        forecaster = darts_model(model, **arguments)
        samples = forecaster._build_train_dataset([windows()], None, None, None, None)
        forecaster.train_sample = source._as_training_sample(samples[0])
        forecaster.output_dim = 1
        return forecaster._init_model()

    make.__doc__ = f"`darts.models.{model}`: {what}"
    module(
        name=name, package="darts", more=darts_data,
        lacks="optimizer unwrap tensors doubles",
    )(make)  # fmt: skip


darts_module(
    "N-BEATS", "stacks of residual blocks", "NBEATSModel",
    num_stacks=1, num_blocks=1, num_layers=1, layer_widths=6,
)  # fmt: skip
darts_module(
    "Transformer of darts", "encoder and decoder", "TransformerModel",
    d_model=4, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=4,
)  # fmt: skip
darts_module("TiDE", "dense encoder and decoder", "TiDEModel", hidden_size=6, decoder_output_dim=2)
