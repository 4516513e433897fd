"""Trainer settings and learning-rate schedules: each a function from nothing to `Trainer` arguments."""

from __future__ import annotations

from typing import Any

from torch.optim import lr_scheduler

from conformance.axis import Axis

SETTINGS = setting = Axis("settings")

# every fit is one of two epochs of four batches where nothing else is said


@setting(needs="length")
def epochs() -> dict[str, Any]:
    """`max_epochs=2`"""
    return {"max_epochs": 2}


@setting(lacks="epochs")
def max_steps() -> dict[str, Any]:
    """`max_epochs=-1, max_steps=7`, validation every three batches"""
    return {"max_epochs": -1, "max_steps": 7, "val_check_interval": 3, "check_val_every_n_epoch": None}


@setting(needs="automatic length unaccumulated many-batches")
def accumulation() -> dict[str, Any]:
    """`accumulate_grad_batches=3`"""
    return {"max_epochs": 2, "accumulate_grad_batches": 3}


@setting(needs="automatic length")
def clip_by_norm() -> dict[str, Any]:
    """`gradient_clip_val=0.1`"""
    return {"max_epochs": 2, "gradient_clip_val": 0.1}


@setting(needs="automatic length reals")
def clip_by_value() -> dict[str, Any]:
    """`gradient_clip_val=0.01, gradient_clip_algorithm="value"`"""
    return {"max_epochs": 2, "gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}


@setting(needs="length autocast")
def bf16_mixed() -> dict[str, Any]:
    """`precision="bf16-mixed"`"""
    return {"max_epochs": 2, "precision": "bf16-mixed"}


@setting(name="64 true", needs="length doubles")
def double() -> dict[str, Any]:
    """`precision="64-true"`"""
    return {"max_epochs": 2, "precision": "64-true"}


@setting(needs="length")
def validation_inside_epochs() -> dict[str, Any]:
    """`val_check_interval=3`"""
    return {"max_epochs": 2, "val_check_interval": 3}


@setting(needs="length every-epoch")
def validation_every_other_epoch() -> dict[str, Any]:
    """`max_epochs=3, check_val_every_n_epoch=2`"""
    return {"max_epochs": 3, "check_val_every_n_epoch": 2}


@setting(needs="many-batches")
def limited_batches() -> dict[str, Any]:
    """`limit_train_batches=3, limit_val_batches=1`"""
    return {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1}


@setting(needs="length sized many-batches")
def half_of_the_batches() -> dict[str, Any]:
    """`limit_train_batches=0.75`"""
    return {"max_epochs": 2, "limit_train_batches": 0.75}


@setting(needs="length")
def reloaded_loaders() -> dict[str, Any]:
    """`reload_dataloaders_every_n_epochs=1`"""
    return {"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1}


@setting(needs="many-batches length")
def overfit() -> dict[str, Any]:
    """`overfit_batches=3`"""
    return {"max_epochs": 2, "overfit_batches": 3}


@setting(needs="length")
def deterministic() -> dict[str, Any]:
    """`deterministic=True`"""
    return {"max_epochs": 2, "deterministic": True}


@setting(needs="length")
def sanity_check() -> dict[str, Any]:
    """`num_sanity_val_steps=1`"""
    return {"max_epochs": 2, "num_sanity_val_steps": 1}


@setting(needs="length")
def anomalies() -> dict[str, Any]:
    """`detect_anomaly=True, inference_mode=False`"""
    return {"max_epochs": 2, "detect_anomaly": True, "inference_mode": False}


@setting(needs="length")
def max_time() -> dict[str, Any]:
    """`max_time` of a day"""
    return {"max_epochs": 2, "max_time": "01:00:00:00"}


def scheduled(name: str, what: str, needs: str, scheduler: Any) -> None:
    def make() -> dict[str, Any]:
        return {"max_epochs": 2, "scheduler": scheduler}

    make.__doc__ = what
    setting(name=name, needs=f"length optimizer automatic {needs}")(make)


scheduled("StepLR", "a schedule by epochs", "", lambda o, _: lr_scheduler.StepLR(o, 1, 0.5))
scheduled(
    "CosineAnnealingLR by step",
    "a schedule by steps",
    "",
    lambda o, _: {"scheduler": lr_scheduler.CosineAnnealingLR(o, 8), "interval": "step"},
)
scheduled(
    "OneCycleLR",
    "made from `estimated_stepping_batches`",
    "sized",
    lambda o, trainer: {
        "scheduler": lr_scheduler.OneCycleLR(
            o, 0.05, total_steps=int(trainer.estimated_stepping_batches), cycle_momentum=False
        ),
        "interval": "step",
    },
)
scheduled(
    "ReduceLROnPlateau",
    "a schedule that watches the validation loss",
    "validation every-epoch",
    lambda o, _: {
        "scheduler": lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.3),
        "monitor": "val_loss",
        "strict": False,
    },
)
scheduled(
    "SequentialLR",
    "warm-up, then decay, by step",
    "",
    lambda o, _: {
        "scheduler": lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)], [3]
        ),
        "interval": "step",
    },
)
scheduled(
    "LambdaLR",
    "a schedule given by a function",
    "",
    lambda o, _: {"scheduler": lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)), "interval": "step"},
)
