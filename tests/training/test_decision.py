"""Decisions inside a real fit: every score and structure, and nothing of the fit is disturbed by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch
import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
import zoo
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from safetensors.torch import load_file
from torch import Tensor, nn

from lottery import LotteryTicket, Masks, Pruning, Run, StorageError
from lottery.foundations import streams
from lottery.pruning.dynamic import Gradual
from lottery.pruning.scores import available, resolve
from lottery.training import decision

SCORES = list(available())
LOADERS = [zoo.ordered_loader, zoo.shuffled_loader, zoo.generator_loader]


def run(
    dirpath: Path,
    pruning: Any,
    *callbacks: Any,
    make: Any = zoo.Net,
    rounds: int = 2,
    save_every: str = "1ep",
    **settings: Any,
) -> Run:
    """Rounds of three steps each."""
    ticket = LotteryTicket(rounds, pruning, dirpath=dirpath, keep="all", save_every=save_every)
    short = {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 0}
    zoo.fit(make, ticket, *callbacks, **{**short, **settings})
    return Run(dirpath)


def history(run: Run) -> list[Masks]:
    return [run.ticket(round).masks for round in run.rounds]


def told(masks: list[Masks]) -> Callable[[Any], dict[str, Tensor]]:
    """A score that leads from each masks to the next."""

    def look_up(context: Any) -> dict[str, Tensor]:
        return {n: m.float() for n, m in masks[masks.index(context.masks) + 1].items()}

    return look_up


def assert_told(scored: Run, tmp_path: Path, **settings: Any) -> None:
    """A run whose masks are the same, but come from no data and no random stream, is the same."""
    pruning = Pruning(0.3, "layerwise", score=told(history(scored)))
    reference = run(tmp_path / "told", pruning, **settings)
    zoo.assert_equal(zoo.contents(scored.path), zoo.contents(reference.path))


# Every score


@pytest.mark.parametrize("score", SCORES)
def test_every_score_prunes_and_rounds_are_those_of_a_run_that_was_told_its_masks(score: str, tmp_path: Path) -> None:
    place = SCORES.index(score)
    loader = LOADERS[place % 3]
    weights, steps = [("trained", 1), ("start", 3)][place % 2]
    pruning = Pruning(0.3, "layerwise", score=score, weights=weights, steps=steps)
    scored = run(tmp_path / "scored", pruning, loader=loader(), rounds=1)
    assert [m.kept for m in history(scored)] == [240, 168]
    if score in ("snip", "synflow", "random", "movement", "fisher"):
        assert_told(scored, tmp_path, loader=loader(), rounds=1)


class Watch(pl.Callback):
    """After round 0 makes every decision there is and looks at what it did to the fit."""

    def __init__(self, ticket: LotteryTicket) -> None:
        self.ticket, self.made = ticket, 0

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        fit = self.ticket._fit
        weights = {k: v.clone() for k, v in module.state_dict().items()}
        masks = Masks.ones({n: weights[n] for n in ("net.0.weight", "net.4.weight")})
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        module.net[1].eval()
        sums = {n: torch.rand_like(weights[n]) for n in masks}
        for score in SCORES:
            before = self.state(trainer)
            other = {k: v + 0.1 for k, v in weights.items()}
            found = decision.next_masks(
                Pruning(0.5, score=score, steps=2), fit, masks, 1,
                weights=other, initial=weights, accumulated=sums, seed=3,
            )  # fmt: skip
            zoo.assert_equal(self.state(trainer), before, score)
            assert found.kept == 120
            self.made += 1

    @staticmethod
    def state(trainer: pl.Trainer) -> dict[str, Any]:
        module = trainer.lightning_module
        generators = [trainer.train_dataloader.generator]
        return {
            "weights": {k: v.clone() for k, v in module.state_dict().items()},
            "objects": [id(t) for t in (*module.parameters(), *module.buffers())],
            "storage": [t.data_ptr() for t in module.state_dict().values()],
            "gradients": [p.grad.clone() for p in module.parameters()],
            "required": [p.requires_grad for p in module.parameters()],
            "modes": [m.training for m in module.modules()],
            "attributes": sorted(vars(module)),
            "optimizers": [o.state_dict() for o in trainer.optimizers],
            "metrics": dict(trainer.callback_metrics),
            "streams": streams.capture(),
            "generators": [g.get_state() for g in generators],
        }


def test_no_decision_touches_module_optimizer_streams_or_generators(tmp_path: Path) -> None:
    ticket = LotteryTicket(0, dirpath=tmp_path)
    watch = Watch(ticket)
    zoo.fit(zoo.Net, ticket, watch, loader=zoo.generator_loader(), max_epochs=1)
    assert watch.made == len(SCORES)


@pytest.mark.parametrize(
    ("score", "loader"),
    [
        ("snip", zoo.ordered_loader),
        ("grasp", zoo.shuffled_loader),
        ("movement", zoo.generator_loader),
        ("random", zoo.shuffled_loader),
    ],
)
def test_a_decision_is_the_same_in_a_new_process(score: str, loader: Callable[[], Any], tmp_path: Path) -> None:
    pruning = Pruning(0.3, score=score, steps=2)
    whole = run(tmp_path / "whole", pruning, loader=loader())
    for rounds in (1, 2):
        again = run(tmp_path / "again", pruning, loader=loader(), rounds=rounds)
    zoo.assert_equal(zoo.contents(again.path), zoo.contents(whole.path))


class Fuse(zoo.Net):
    """Is killed where a score takes its loss, while the fuse burns, but not in the first step, where it is tried."""

    burning: ClassVar[bool] = False
    tried: bool = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.burning and not self.training:
            if self.tried:
                raise zoo.Killed
            self.tried = True
        return super().training_step(batch, batch_idx)


def test_a_run_killed_inside_a_decision_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = zoo.generator_loader
    pruning = Pruning(0.3, score={"name": "snip", "batches": 3}, steps=3)
    whole = run(tmp_path / "whole", pruning, loader=loader(), make=Fuse)
    with monkeypatch.context() as patch, pytest.raises(zoo.Killed):
        patch.setattr(Fuse, "burning", True)
        run(tmp_path / "again", pruning, loader=loader(), make=Fuse)
    assert Run(tmp_path / "again").rounds == [0]
    again = run(tmp_path / "again", pruning, loader=loader(), make=Fuse)
    zoo.assert_equal(zoo.contents(again.path), zoo.contents(whole.path))


@pytest.mark.parametrize(
    ("score", "hook", "kills"),
    [
        ("snip", "on_train_start", [1]),  # right after the decision
        ("movement", "on_train_batch_end", [1, 2]),  # inside rounds 0 and 1
    ],
)
def test_a_run_killed_around_a_decision_resumes_bit_for_bit(
    score: str, hook: str, kills: list[int], tmp_path: Path
) -> None:
    pruning = Pruning(0.3, score=score)

    def live(dirpath: str, *callbacks: Any) -> Run:
        loader = zoo.generator_loader()
        return run(tmp_path / dirpath, pruning, *callbacks, loader=loader, save_every="1it")

    whole = live("whole")
    for n in kills:
        with pytest.raises(zoo.Killed):
            live("again", zoo.KillAt(hook, n))
    zoo.assert_equal(zoo.contents(live("again").path), zoo.contents(whole.path))


@pytest.mark.parametrize(
    ("make", "score"),
    [
        (zoo.Recurrent, "snip"),
        (zoo.Tied, "taylor"),
        (zoo.WeightNorm, "random"),
        (zoo.Attention, "fisher"),
        (zoo.Double, "grasp"),
        (zoo.Unused, "wanda"),
        (zoo.TwoOptimizers, "movement"),
        (zoo.SparseEmbedding, "movement"),
    ],
)
def test_modules_of_any_kind_can_be_scored(make: Any, score: str, tmp_path: Path) -> None:
    exclude = ["unused*"] if make is zoo.Unused else []
    pruning = Pruning(0.2, "layerwise", score=score, steps=2, exclude=exclude)
    found = run(tmp_path, pruning, make=make, rounds=1)
    assert history(found)[1].density == pytest.approx(0.8, abs=0.02)


class Predicts(zoo.Net):
    """Its forward is for predictions, and takes no gradients."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


class Binary(zoo.Net):
    """One logit."""

    def __init__(self) -> None:
        super().__init__()
        self.net[4] = nn.Linear(16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self(batch[0])[:, 0], (batch[1] > 1).float())


class Reconstructs(zoo.Net):
    """Its batches have no target that is a class."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self(batch[0]) - batch[0][:, : zoo.CLASSES]).abs().mean()


@pytest.mark.parametrize("make", [Predicts, Binary, Reconstructs])
def test_grasp_scores_what_the_training_step_minimises(make: Any, tmp_path: Path) -> None:
    settings = {"limit_val_batches": 0, "make": make, "rounds": 1}
    own, one = (
        run(tmp_path / name, Pruning(0.3, score=score, weights="start"), **settings)
        for name, score in (("own", "grasp"), ("one", {"name": "grasp", "temperature": 1.0}))
    )
    assert history(own)[1] == history(one)[1]


class ZeroHead(zoo.Net):
    """Its last layer starts at zero, so no gradient reaches the first."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.net[4].weight)


def test_a_layer_without_gradients_is_named_with_its_share_of_the_mask(tmp_path: Path) -> None:
    said = "'snip' is equal for many weights: position alone decided 100 % of the mask of round 1, in net.0.weight"
    with pytest.warns(UserWarning, match=said):
        run(tmp_path, Pruning(0.3, score="snip", weights="start", collapse="warn"), make=ZeroHead, rounds=1)


class Residual(zoo.Net):
    """A block whose inner weights are the smallest."""

    def __init__(self) -> None:
        super().__init__(lambda parameters: torch.optim.SGD(parameters, lr=1e-6))
        self.inner = nn.Linear(zoo.INPUTS, zoo.INPUTS)
        nn.init.constant_(self.inner.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + self.inner(x).relu())


@pytest.mark.parametrize("dynamic", [None, Gradual(0.6, every="1it", scope="global")])
def test_a_run_goes_on_where_paths_lead_around_an_empty_layer(dynamic: Any, tmp_path: Path) -> None:
    if dynamic is None:
        found = run(tmp_path, Pruning(0.4), make=Residual, rounds=1)
    else:
        zoo.fit(Residual, LotteryTicket(0, dynamic=dynamic, dirpath=tmp_path), max_epochs=1)
        found = Run(tmp_path)
    left = found.summary(found.rounds[-1]).connectivity
    assert left.empty == ("inner.weight",)
    assert left.connected


class Metered(zoo.Net):
    """Keeps a metric object that is never reset, writes to its logger, and returns its loss in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torchmetrics.MeanMetric()

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        loss = super().training_step(batch, 0)
        self.seen.update(loss.detach())
        self.log("seen", self.seen.compute())
        self.logger.log_metrics({"mine": float(loss)})
        return {"loss": loss}


class Lines(pl.loggers.logger.DummyLogger):
    """Counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.lines += [name for name in metrics if name == "mine"]


def test_a_score_leaves_metric_objects_and_loggers_alone(tmp_path: Path) -> None:
    pruning = Pruning(0.3, "layerwise", score="fisher")
    logger = Lines()
    scored = run(tmp_path / "scored", pruning, make=Metered, logger=logger)
    assert len(logger.lines) == 3 * 3  # one for each step of training
    assert_told(scored, tmp_path, make=Metered, logger=Lines())


class Pairs(zoo.Net):
    """Trains on two loaders at once."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return sum(super(Pairs, self).training_step(b, batch_idx) for b in batch)


@pytest.mark.parametrize("together", [list, lambda pair: CombinedLoader(pair, "min_size")])
def test_several_loaders_are_scored_as_they_are_trained_on(together: Any, tmp_path: Path) -> None:
    def loader() -> Any:
        return together([zoo.ordered_loader(), zoo.generator_loader()])

    score = {"name": "taylor", "batches": 99}
    pruning = Pruning(0.3, "layerwise", score=score, steps=2)
    scored = run(tmp_path / "scored", pruning, make=Pairs, loader=loader())
    assert_told(scored, tmp_path, make=Pairs, loader=loader())


def test_movement_of_manual_optimization_counts_each_step_once(tmp_path: Path) -> None:
    """One optimizer's step says nothing about the weights of another."""

    class Sums(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
            own = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, p in module.named_parameters():
                if id(p) in own:
                    sums[name] = sums.get(name, 0) - p.detach() * p.grad

    sums: dict[str, Tensor] = {}
    pruning = Pruning(0.3, score="movement")
    moved = run(tmp_path, pruning, Sums(), make=zoo.TwoOptimizers, rounds=0)
    prunable = moved.ticket(0).masks
    gathered = load_file(tmp_path / "rounds" / "00" / "gathered.safetensors")
    zoo.assert_equal(gathered, {name: sums[name] for name in prunable})


def test_the_start_is_scored_where_the_weights_are_rewound_to(tmp_path: Path) -> None:
    ticket = LotteryTicket(1, Pruning(0.4, weights="start"), "3it", tmp_path)
    zoo.fit(zoo.Net, ticket, max_epochs=1)
    found = Run(tmp_path)
    expected = Pruning(0.4).next_masks(
        {n: found.weights("rewind")[n].abs() for n in found.ticket(0).masks}, found.ticket(0).masks, 1
    )
    assert found.ticket(1).masks == expected


def test_both_namespaces_score_alike(tmp_path: Path) -> None:
    def fit(namespace: Any, dirpath: Path) -> list[Masks]:
        kind = type(
            "Both",
            (namespace.LightningModule,),
            {
                "__init__": lambda self: (
                    namespace.LightningModule.__init__(self),
                    setattr(self, "net", nn.Linear(zoo.INPUTS, zoo.CLASSES)),
                )[0],
                "forward": lambda self, x: self.net(x),
                "training_step": lambda self, batch, _: nn.functional.cross_entropy(self(batch[0]), batch[1]),
                "configure_optimizers": lambda self: zoo.SGD(self.parameters()),
            },
        )
        torch.manual_seed(0)
        trainer = namespace.Trainer(
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            callbacks=[LotteryTicket(2, Pruning(score="snip", steps=3), dirpath=dirpath)],
        )
        trainer.fit(kind(), zoo.shuffled_loader())
        return history(Run(dirpath))

    pairs = zip(fit(pl, tmp_path / "a"), fit(lightning.pytorch, tmp_path / "b"), strict=True)
    assert all(left == right for left, right in pairs)


# Structures


class Conv(zoo.Net):
    """Two convolutions and a linear layer; every input dimension is a multiple of four."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (4, 3)),
            nn.Conv1d(4, 8, 3, padding=1),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Conv1d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(8, zoo.CLASSES),
        )


def in_tiles(mask: Tensor, rows: int, columns: int) -> bool:
    """Whether each tile is kept or gone as one."""
    tiles = mask.flatten(2) if mask.ndim > 2 else mask[..., None]
    parts = [
        tile for row in tiles.split(rows, 0) for tile in row.split(columns, 1)
    ]  # fmt: skip
    return all(bool(p.all()) or not bool(p.any()) for p in parts)


def two_of_four(masks: Masks) -> bool:
    return all(bool((m.unflatten(1, (-1, 4)).sum(2) == 2).all()) for m in masks.values())


def no_half_channels(masks: Masks) -> bool:
    first, second, head = masks.values()
    ends = ((first, second), (second, head))
    return all(torch.equal(made.flatten(1).any(1), taken.transpose(0, 1).flatten(1).any(1)) for made, taken in ends)


STRUCTURES: list[tuple[Any, str, Callable[[Masks], bool]]] = [
    ("2:4", "magnitude", two_of_four),
    ("kernel", "snip", lambda masks: all(in_tiles(m, 1, 1) for m in masks.values())),
    ({"name": "block", "shape": [2, 4]}, "magnitude", lambda masks: all(in_tiles(m, 2, 4) for m in masks.values())),
    ("channel", "synflow", no_half_channels),
]


@pytest.mark.parametrize(("structure", "score", "holds"), STRUCTURES, ids=["2:4", "kernel", "block", "channel"])
def test_structures_hold_in_every_round(
    structure: Any, score: str, holds: Callable[[Masks], bool], tmp_path: Path
) -> None:
    pruning = Pruning(0.3, score=score, structure=structure, steps=2)
    whole = run(tmp_path / "whole", pruning, make=Conv)
    masks = history(whole)
    assert all(holds(m) for m in masks[1:])
    assert masks[2].nested_in(masks[1]) and masks[1].kept < masks[0].kept
    if structure == "channel":
        for rounds in (1, 2):
            again = run(tmp_path / "again", pruning, make=Conv, rounds=rounds)
        zoo.assert_equal(zoo.contents(again.path), zoo.contents(whole.path))


def test_a_run_says_before_it_trains_which_units_may_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "run", Pruning(0.3, structure="channel"), make=Conv, rounds=1)
    said = capsys.readouterr().out
    assert said.count("Units that may go") == 1
    assert said.index("Prunable parameters") < said.index("Units that may go") < said.index("round 0/1")
    assert "stay: the network gives them back" in " ".join(said.split())


# A user's own score


def mine(context: Any) -> dict[str, Tensor]:
    """Gradients of the loss on the first batch, with no decorator."""
    batch = next(iter(context.batches()))
    loss = context.loss(context.module, batch)
    names, parameters = zip(*context.parameters.items(), strict=True)
    return {n: g.abs() for n, g in zip(names, torch.autograd.grad(loss, parameters), strict=True)}


def test_a_users_function_is_a_score_like_the_others(tmp_path: Path) -> None:
    pruning = Pruning(0.3, "layerwise", score=mine, steps=2)
    scored = run(tmp_path / "mine", pruning)
    assert [m.kept for m in history(scored)] == [240, 168, 118]
    assert_told(scored, tmp_path)


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_a_fit_in_half_precision_is_scored_in_float32(precision: str, tmp_path: Path) -> None:
    kinds: set[torch.dtype] = set()

    def watch(context: Any) -> dict[str, Tensor]:
        kinds.update(w.dtype for w in context.weights.values())
        kinds.add(context.loss(context.module, next(iter(context.batches()))).dtype)
        return mine(context)

    run(tmp_path / "watched", Pruning(0.3, score=watch), precision=precision, rounds=1)
    assert kinds == {torch.float32}
    for score in ("grasp", "fisher", "movement"):
        assert history(run(tmp_path / score, Pruning(0.3, score=score), precision=precision))[2].kept == 118


def test_the_settings_of_another_score_are_refused_and_shown(tmp_path: Path) -> None:
    four = Pruning(score={"name": "snip", "batches": 4})
    run(tmp_path, four, rounds=1)
    before = zoo.contents(tmp_path)
    for other, message in (
        (Pruning(score={"name": "snip", "batches": 2}), "pruning.score.batches: 4 in the run, 2 now"),
        (Pruning(score="grasp"), "score.name: 'snip' in the run, 'grasp' now"),
        (Pruning(score=mine), "score.name: 'snip' in the run, 'mine' now"),
        (Pruning(score=four.score, steps=3), "pruning.steps: 1 in the run, 3 now"),
        (Pruning(score=four.score, weights="start"), "'trained' in the run, 'start' now"),
        (Pruning(score=four.score, structure="kernel"), "'element' in the run, 'kernel' now"),
    ):  # fmt: skip
        with pytest.raises(StorageError, match=message):
            run(tmp_path, other)
    zoo.assert_equal(zoo.contents(tmp_path), before)


def test_a_score_is_the_same_setting_however_it_is_written(tmp_path: Path) -> None:
    run(tmp_path, Pruning(score="snip", structure="2:4"), make=Conv, rounds=1)
    same = {"name": "snip", "batches": 1}
    for score in (same, resolve(same)):
        pruning = Pruning(score=score, structure={"name": "n:m", "n": 2, "m": 4})
        assert run(tmp_path, pruning, make=Conv, rounds=1).rounds == [0, 1]
