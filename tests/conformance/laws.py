"""The five laws, tried on one case: `outcome` says how it went."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytorch_lightning as pl
import torch
import zoo
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from conformance.callbacks import CALLBACKS
from conformance.cases import Case
from conformance.data import tabular
from conformance.loaders import LOADERS, TellEpoch, validation
from conformance.modules import MODULES
from conformance.optimizers import OPTIMIZERS, ScheduleFreeModes
from conformance.settings import SETTINGS
from lottery import LotteryTicket, Masks, Pruning, Run
from lottery.foundations import streams
from lottery.runs.layout import CALLBACK
from lottery.training.enforcement import RegrowthError

PRUNING = Pruning(0.3, scope="layerwise")
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "accelerator": "cpu",
}


@dataclass
class Outcome:
    """How a case went: which laws it broke, or with which words it was refused."""

    broken: dict[str, str] = field(default_factory=dict)
    refused: str | None = None


# one fit


def make(case: Case) -> pl.LightningModule:
    """The case's module, whose `configure_optimizers` is replaced where the case gives an optimizer or a schedule."""
    pl.seed_everything(1, verbose=False)
    module = MODULES[case.module].make()
    given = OPTIMIZERS[case.optimizer].make
    scheduler = SETTINGS[case.settings].make().get("scheduler")
    if case.optimizer == "own" and scheduler is None:
        return module
    original = type(module).configure_optimizers

    def configure_optimizers(self: Any) -> Any:
        optimizer = original(self) if case.optimizer == "own" else given(self.parameters())
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": scheduler(optimizer, self.trainer)}

    class_ = type(module)
    module.__class__ = type(class_.__name__, (class_,), {"configure_optimizers": configure_optimizers})
    return module


def fit(
    case: Case,
    root: Path,
    first: list[Any],
    last: list[Any],
    module: pl.LightningModule | None = None,
    loader: Any = None,
) -> pl.Trainer:
    """One fit of a case, as its user's script would run it; `first` and `last` are callbacks around the case's own."""
    module = make(case) if module is None else module
    data = (MODULES[case.module].more or tabular)()
    settings = SETTINGS[case.settings].make()
    settings.pop("scheduler", None)
    if loader is not None:  # batches that another fit has seen, limited already
        settings.pop("limit_train_batches", None)
    own = CALLBACKS[case.callback]
    helpers: list[Any] = []
    if "ScheduleFree" in case.optimizer:
        helpers.append(ScheduleFreeModes())
    if case.loader == "told the epoch":
        helpers.append(TellEpoch())
    callbacks = [*first, *helpers, *own.make(), *last]
    if any(isinstance(c, ModelCheckpoint) for c in callbacks):
        settings["enable_checkpointing"] = True
    arguments = {**QUIET, "default_root_dir": root, **(own.more or {}), **settings}
    trainer = namespace_of(module).Trainer(callbacks=callbacks, **arguments)
    train = LOADERS[case.loader].make(data) if loader is None else loader
    with quietly(root):
        if isinstance(train, pl.LightningDataModule):
            trainer.fit(module, datamodule=train)
        else:
            trainer.fit(module, train, validation(data))
    return trainer


def namespace_of(module: Any) -> Any:
    """The package whose Trainer fits a module: packages are of one namespace or the other."""
    its = isinstance(module, lightning.pytorch.LightningModule)
    return lightning.pytorch if its else pl


@contextlib.contextmanager
def quietly(root: Path) -> Iterator[None]:
    here = Path.cwd()
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(here)


def plain_name(name: str) -> str:
    return name.replace("_orig_mod.", "")


def parameters_of(module: Any) -> dict[str, Any]:
    return {plain_name(n): p for n, p in module.named_parameters()}


# what a run is watched by


@dataclass
class Seen:
    """A training batch, and the random streams when it came."""

    epoch: int
    index: int
    batch: Any
    streams: Any


class Probe(pl.Callback):
    """Notes the batches of each round, and the weights after each step and at each validation.

    It does so outside of its attributes, which each round puts back to what they were.
    """

    rounds: list[list[Seen]]
    weights: list[tuple[str, int, dict[str, Tensor]]]
    lengths: dict[int, int]
    steps: int
    _handle: Any
    _trainer: Any

    def __init__(self) -> None:
        notes = {
            "rounds": [], "weights": [], "lengths": {}, "steps": 0, "_handle": None, "_trainer": None,
        }  # fmt: skip
        object.__setattr__(self, "_notes", lambda: notes)

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["_notes"]()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        notes = self._notes()
        if name in notes:
            notes[name] = value
        else:
            object.__setattr__(self, name, value)

    def _note(self, what: str, module: Any) -> None:
        weights = {n: p.detach().clone() for n, p in parameters_of(module).items() if p.ndim > 1}
        self.weights.append((what, len(self.rounds) - 1, weights))

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        if any(optimizer is o for o in self._trainer.optimizers):
            self.steps += 1
            self._note(f"after step {self.steps}", self._trainer.lightning_module)

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        self._trainer = trainer

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.rounds.append([])
        self.close()  # the last to look, after what enforces the masks of this round
        self._handle = register_optimizer_step_post_hook(self._stepped)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        with contextlib.suppress(TypeError, NotImplementedError):
            self.lengths[trainer.current_epoch] = len(trainer.fit_loop._combined_loader)
        seen = Seen(trainer.current_epoch, index, copy.deepcopy(batch), streams.capture())
        self.rounds[-1].append(seen)

    def on_validation_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._note("at a validation", module)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.remove()


class Replay:
    """A loader that gives batches again that another fit has seen."""

    def __init__(self, seen: list[Seen], lengths: dict[int, int]) -> None:
        self.seen, self.lengths, self.trainer = seen, lengths, None
        if lengths:
            self.__class__ = SizedReplay

    def __iter__(self) -> Iterator[Any]:
        epoch = self.trainer.current_epoch  # type: ignore[attr-defined]
        yield from (copy.deepcopy(s.batch) for s in self.seen if s.epoch == epoch)


class SizedReplay(Replay):
    """It has a length in each epoch, as the loaders had that it replays."""

    def __len__(self) -> int:
        last = self.lengths[max(self.lengths)]  # also after the last epoch
        return self.lengths.get(self.trainer.current_epoch, last)  # type: ignore[attr-defined]


class Masked(pl.Callback):
    """An enforcement of masks that shares nothing with the one under test: at every hook, from a given batch on."""

    def __init__(self, masks: dict[str, Tensor], seen: list[Seen], start: Seen) -> None:
        self.masks, self.start, self.active = masks, start, False
        self.streams = {(s.epoch, s.index): s.streams for s in seen}
        self.replay: Any = None
        for hook in (
            "on_train_batch_end", "on_validation_start", "on_validation_epoch_start",
            "on_validation_batch_start", "on_validation_end", "on_train_epoch_end", "on_train_end",
        ):  # fmt: skip
            setattr(self, hook, self._mask_weights)

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        if self.replay is not None:
            self.replay.trainer = trainer

    def on_train_start(self, trainer: Any, module: Any) -> None:
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(lambda *_: self._mask_weights(trainer, module))

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if not self.active and trainer.current_epoch == self.start.epoch and self.start.index == 0:
            self._begin(trainer, module)
        self._mask_weights(trainer, module)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        now = (trainer.current_epoch, index)
        if not self.active and now == (self.start.epoch, self.start.index):
            self._begin(trainer, module)
        self._mask_weights(trainer, module)
        if now in self.streams:
            streams.restore(self.streams[now])

    def _begin(self, trainer: Any, module: Any) -> None:
        self.active = True
        parameters = parameters_of(module)
        for optimizer in trainer.optimizers:
            for name, mask in self.masks.items():
                state = optimizer.state.get(parameters[name], {})
                for value in state.values():
                    if isinstance(value, Tensor) and value.shape == mask.shape:
                        value.mul_(mask)
        for callback in trainer.callbacks:
            for value in vars(callback).values():
                if isinstance(value, torch.nn.Module):
                    value = parameters_of(value)
                if isinstance(value, dict):
                    for name, tensor in value.items():
                        for own, mask in self.masks.items():
                            if isinstance(tensor, Tensor) and str(name).endswith(own) and tensor.shape == mask.shape:
                                tensor.data.mul_(mask)

    def _mask_weights(self, trainer: Any, module: Any, *_: Any) -> None:
        if self.active:
            parameters = parameters_of(module)
            with torch.no_grad():
                for name, mask in self.masks.items():
                    parameters[name][~mask] = 0.0

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        if self.active:
            parameters = parameters_of(module)
            for name, mask in self.masks.items():
                gradient = parameters[name].grad
                if gradient is None:
                    continue
                if gradient.is_sparse:
                    gradient = parameters[name].grad = gradient.coalesce()
                    gradient.values().mul_(mask[gradient.indices()[0]])
                else:
                    gradient.mul_(mask)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.on_after_backward(trainer, module)


class Saver(ModelCheckpoint):
    """Beside a ModelCheckpoint of the case's own."""

    state_key = "Saver"  # type: ignore[assignment]


# the laws


class Trial:
    """The fits that the laws compare, each made when it is first asked for."""

    def __init__(self, case: Case, root: Path) -> None:
        self.case, self.root = case, root
        self.probe = Probe()

    def ticket(self, name: str, rounds: int | None = None) -> LotteryTicket:
        return LotteryTicket(
            self.case.rounds if rounds is None else rounds,
            PRUNING,
            self.case.rewind,
            self.root / name,
            keep="all",
            save_every="1it",
        )

    @functools.cached_property
    def plain(self) -> dict[str, Any]:
        return end_state(fit(self.case, self.root / "plain", [], []))

    @functools.cached_property
    def whole(self) -> dict[str, Any]:
        """The run that is never stopped, watched."""
        module = make(self.case)
        before = {"class": type(module), "parameters": {n: id(p) for n, p in module.named_parameters()}}
        saver = Saver(self.root / "checkpoints", save_top_k=-1, every_n_train_steps=1, filename="{step}")
        try:
            trainer = fit(self.case, self.root / "out", [self.ticket("whole")], [self.probe, saver], module)
        finally:
            self.probe.close()
        return {"before": before, "trainer": trainer, "module": module}

    @functools.cached_property
    def run(self) -> Run:
        assert self.whole
        return Run(self.root / "whole")

    def law_1(self) -> None:
        """With rounds=0 a fit is what it is without."""
        found = end_state(fit(self.case, self.root / "none", [self.ticket("none", 0)], []))
        zoo.assert_equal(found, self.plain, "rounds=0")

    def law_2(self) -> None:
        """A round is a plain fit that has the round's mask from the rewind point on."""
        case = self.case
        tuned = case.callback == "learning rate finder"
        if tuned:  # which would try its rates on other batches
            case = case._replace(callback=CALLBACKS.base)
        for round in self.run.rounds:
            seen = self.probe.rounds[round]
            start = seen[0]
            before = [s for s in self.probe.rounds[0] if (s.epoch, s.index) < (start.epoch, start.index)]
            masks = {n: m for n, m in self.run.ticket(round).masks.items() if not m.all()}
            replay = Replay([*before, *seen], self.probe.lengths)
            first, last = (Masked(masks, [*before, *seen], start) for _ in range(2))
            first.replay = replay
            module = make(case)
            if tuned:
                module.lr = self.whole["module"].lr
            if not before and not any(isinstance(p, torch.nn.UninitializedParameter) for p in module.parameters()):
                parameters = parameters_of(module)
                with torch.no_grad():
                    for name, mask in masks.items():
                        if name in parameters:
                            parameters[name].mul_(mask)
            trainer = fit(case, self.root / f"reference-{round}", [first], [last], module, replay)
            found = {plain_name(n): t for n, t in trainer.lightning_module.state_dict().items()}
            expected = {plain_name(n): t for n, t in self.run.weights(round).items()}
            tensors = {n: t for n, t in found.items() if isinstance(t, Tensor)}
            zoo.assert_equal(tensors, expected, f"round {round}")

    def law_3(self) -> None:
        """A run that is killed inside an epoch, between epochs and between rounds ends as one that is not."""
        assert self.run
        kills = 0
        for hook, n in self.case.kills:
            try:
                fit(self.case, self.root / "killed", [self.ticket("again")], [zoo.KillAt(hook, n)])
            except zoo.Killed:
                kills += 1
        assert kills, "no kill came in time"
        trainer = fit(self.case, self.root / "killed", [self.ticket("again")], [])
        expected = zoo.contents(self.root / "whole")
        zoo.assert_equal(zoo.contents(self.root / "again"), expected)
        zoo.assert_equal(trainer.lightning_module.state_dict(), self.whole["module"].state_dict(), "the fitted module")

    def law_4(self) -> None:
        """The module is as it was, and checkpoints load without this package."""
        module, before = self.whole["module"], self.whole["before"]
        assert type(module) is before["class"], f"class {type(module)}"
        now = {n: id(p) for n, p in module.named_parameters()}
        moved = [n for n, i in before["parameters"].items() if now.get(n) != i]
        assert not moved, f"other parameter objects: {moved}"
        keys, hooks = list(module.state_dict()), hooks_of(module)
        assert keys == list(self.plain["weights"]), "other keys in state_dict"
        assert hooks == self.plain["hooks"], f"hooks: {hooks ^ self.plain['hooks']}"
        if "plain-checkpoints" in MODULES[self.case.module].lacks:
            return
        files = sorted((self.root / "checkpoints").rglob("*.ckpt"))
        assert files, "no checkpoints"
        for path in files:
            state = torch.load(path, weights_only=False)["state_dict"]
            assert list(state) == keys, f"{path.name} has other keys than the module"

    def law_5(self) -> None:
        """Pruned weights are zero after each step, at each validation, in each stored file."""
        masks = [self.run.ticket(round).masks for round in self.run.rounds]
        for what, round, weights in self.probe.weights:
            assert_zero(weights, masks[round], f"round {round} {what}")
        for round in self.run.rounds:
            assert_zero(self.run.weights(round), masks[round], f"stored weights of round {round}")
            folder = self.root / "checkpoints" / (f"round-{round:02d}" if round else "")
            files = list(folder.glob("*.ckpt"))
            assert files, f"no checkpoints of round {round}"
            for path in files:
                checkpoint = torch.load(path, weights_only=False)
                own = checkpoint.get("callbacks", {}).get(CALLBACK)
                if own is not None:  # what a callback remembers of old weights
                    del own["streams"]
                assert_zero(checkpoint, masks[round], f"round {round}, {path.name}")
        assert_zero(self.whole["module"].state_dict(), masks[-1], "the fitted module")


LAWS: dict[str, Callable[[Trial], None]] = {f"law {n}": getattr(Trial, f"law_{n}") for n in range(1, 6)}


def outcome(case: Case, root: Path | None = None, laws: Any = LAWS) -> Outcome:
    """Try the laws on a case; none is left out because another is broken."""
    if root is None:
        with tempfile.TemporaryDirectory() as folder:
            return outcome(case, Path(folder), laws)
    trial, found = Trial(case, root), Outcome()
    try:
        assert trial.plain
    except Exception as error:  # noqa: BLE001 (whatever a case raises is its outcome)
        found.broken["plain fit"] = said(error)
        return found
    try:
        assert trial.whole
    except (Exception, SystemExit) as error:  # noqa: BLE001
        early = trial.probe.steps == 0 and not (root / "whole" / "rounds").exists()
        if is_ours(error) and (early or isinstance(error, RegrowthError)):
            found.refused = str(error)
        else:
            found.broken["whole run"] = said(error)
        return found
    for law in laws:
        try:
            LAWS[law](trial)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            found.broken[law] = said(error)
    return found


def is_ours(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.sep}lottery{os.sep}" in frames[-1].filename


def said(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if isinstance(error, AssertionError) else f" ({Path(frame.filename).name}:{frame.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def assert_zero(tensors: Any, masks: Masks, what: str) -> None:
    """Every tensor, at any depth, that has a mask's name and shape is zero where the mask prunes."""
    if not isinstance(tensors, dict):
        return
    for name, value in tensors.items():
        own = plain_name(name) if isinstance(name, str) else name
        if isinstance(value, Tensor) and own in masks and value.shape == masks[own].shape:
            alive = int((value[~masks[own]] != 0).sum())
            assert not alive, f"{what}: {alive} pruned weights of {own} are not zero"
        assert_zero(value, masks, what)


def hooks_of(module: Any) -> set[str]:
    """Every hook on a module, its submodules and parameters."""
    found = set()
    for name, part in module.named_modules():
        for kind, hooks in vars(part).items():
            if kind.endswith("hooks") and isinstance(hooks, dict):
                found |= {f"{name}.{kind}[{i}]" for i, _ in enumerate(hooks)}
    for name, parameter in module.named_parameters():
        for i, _ in enumerate(parameter._backward_hooks or ()):
            found.add(f"{name}[{i}]")
    return found


def end_state(trainer: pl.Trainer) -> dict[str, Any]:
    module = trainer.lightning_module
    return {
        "weights": module.state_dict(),
        "hooks": hooks_of(module),
        "optimizers": [o.state_dict() for o in trainer.optimizers],
        "schedulers": [
            {k: v for k, v in c.scheduler.state_dict().items() if not k.startswith("_")}
            for c in trainer.lr_scheduler_configs
        ],
        "metrics": {k: v for k, v in trainer.callback_metrics.items() if k not in ("round", "density")},
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "streams": streams.capture(),
    }
