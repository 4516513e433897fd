"""The benchmark models: shapes, initialisation, what they log, what a checkpoint holds."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
import zoo
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.callbacks import Checkpoint

from lottery.tasks.data import BatchLoader
from lottery.tasks.models import MLP, LeNet5, LeNet300
from lottery.tasks.models.mlp import glorot_normal_


def test_lenet_has_266610_parameters():
    model = LeNet300()
    assert sum(p.numel() for p in model.parameters()) == 266_610
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "hidden.0.weight": (300, 784),
        "hidden.0.bias": (300,),
        "hidden.1.weight": (100, 300),
        "hidden.1.bias": (100,),
        "output.weight": (10, 100),
        "output.bias": (10,),
    }


def test_lenet_5_is_that_of_caffe():
    model = LeNet5()
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if p.ndim > 1}
    assert sum(p.numel() for p in model.parameters()) == 431_080
    assert shapes == {
        "conv1.weight": (20, 1, 5, 5),
        "conv2.weight": (50, 20, 5, 5),
        "hidden.weight": (500, 800),
        "output.weight": (10, 500),
    }


def test_lenet_takes_pictures_flat_or_not():
    model = LeNet300()
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(model(x), model(x.flatten(1)))


def test_an_mlp_is_what_it_says():
    model = MLP(4, hidden=(3, 2), classes=5)
    x = torch.rand(7, 4)
    first, second = model.hidden
    expected = model.output(F.relu(second(F.relu(first(x)))))
    assert torch.equal(model(x), expected)


def test_an_mlp_without_hidden_layers_is_linear():
    model = MLP(4, hidden=(), classes=3)
    assert [name for name, _ in model.named_parameters()] == ["output.weight", "output.bias"]


def test_a_width_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"\[4, 0, 10\]"):
        MLP(4, hidden=(0,))


@given(st.integers(20, 400), st.integers(20, 400), st.integers(0, 1000))
def test_glorot_normal_has_the_variance_of_the_paper_and_a_cut(outputs, inputs, seed):
    torch.manual_seed(seed)
    weight = glorot_normal_(torch.empty(outputs, inputs))
    deviation = (2 / (inputs + outputs)) ** 0.5
    tolerance = 5 / (outputs * inputs) ** 0.5
    assert abs(weight.std() / deviation - 1) < tolerance
    assert abs(weight.mean() / deviation) < tolerance
    assert weight.abs().max() <= 2 * deviation / 0.8796


def test_biases_start_at_zero():
    model = LeNet300()
    assert not any(p.any() for name, p in model.named_parameters() if "bias" in name)


def test_the_global_seed_fixes_the_initialisation():
    def weights(seed):
        seed_everything(seed)
        return LeNet300().hidden[0].weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


# Training


class Record(Checkpoint):
    """Keeps the metrics of each epoch, and a checkpoint of one step.

    A `Checkpoint`, because Lightning calls those after the module's own hook.
    """

    def __init__(self, step=None, path=None):
        self.step, self.path = step, path
        self.epochs = []

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, module):
        self.epochs.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def batches():
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    return BatchLoader(x, (x.sum(1) > 2).long(), batch_size=8)


def trainer(*callbacks, **options):
    return Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )


def model(**options):
    seed_everything(0)
    return MLP(4, hidden=(6,), classes=2, **options)


def test_train_metrics_are_means_over_samples_as_they_were_trained_on():
    record = Record()
    frozen = model(optimizer=partial(torch.optim.SGD, lr=0.0))
    trainer(record).fit(frozen, batches(), batches())
    x, y = batches().tensors
    loss = F.cross_entropy(frozen(x), y).item()
    accuracy = (frozen(x).argmax(1) == y).float().mean().item()
    for epoch in record.epochs:
        assert epoch["train_loss"] == pytest.approx(loss, rel=1e-5)
        assert epoch["val_loss"] == pytest.approx(loss, rel=1e-5)
        assert epoch["train_acc"] == pytest.approx(accuracy)
        assert epoch["val_acc"] == pytest.approx(accuracy)


def test_the_test_metrics_carry_their_names():
    (metrics,) = trainer().test(model(), batches(), verbose=False)
    assert metrics.keys() == {"test_loss", "test_acc"}


@zoo.resumes_inside_epochs
@pytest.mark.parametrize("step", [1, 5, 7, 9])
def test_metrics_of_a_resumed_epoch_equal_those_of_an_uninterrupted_one(tmp_path, step):
    path = tmp_path / "step.ckpt"
    record, resumed = Record(step, path), Record()
    trainer(record).fit(model(), batches(), batches())
    trainer(resumed).fit(model(), batches(), batches(), ckpt_path=path)
    assert resumed.epochs[-1] == record.epochs[-1]
    if step < 7:
        assert resumed.epochs == record.epochs


def test_a_learning_rate_schedule_is_stepped_once_an_epoch():
    scheduled = model(
        optimizer=partial(torch.optim.SGD, lr=1.0),
        lr_scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.1),
    )
    fit = trainer()
    fit.fit(scheduled, batches())
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("make", [LeNet300, lambda: MLP(784, [6], optimizer=make_sgd)])
def test_a_checkpoint_loads_safely_into_the_same_model(tmp_path, make):
    module = make()
    fit = trainer(limit_train_batches=0)
    fit.fit(module, BatchLoader(torch.rand(2, 784), torch.zeros(2).long(), batch_size=2))
    fit.save_checkpoint(tmp_path / "model.ckpt")
    loaded = type(module).load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    x = torch.rand(2, 784)
    assert torch.equal(loaded(x), module(x))


def make_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_a_model_trains_in_other_precisions(precision):
    record = Record()
    trainer(record, precision=precision).fit(model(), batches(), batches())
    assert record.epochs[-1]["train_loss"] > 0
