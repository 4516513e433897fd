"""Every recipe of `recipes/` trains, prunes and stores, if only for a few batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lottery import Run, cli
from lottery.tasks.data import fashion_mnist

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")


def recipes() -> list[Any]:
    """All; the quick tests leave out those with 60,000 images, but for one."""
    slow = [p.stem.startswith("fashion") and p.stem != "fashion_lenet" for p in RECIPES]
    return [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * late)
        for path, late in zip(RECIPES, slow, strict=True)
    ]


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_runs(recipe: Path, tmp_path: Path) -> None:
    if "fashion" in recipe.stem and not fashion_mnist.DEBIAN_FOLDER.is_dir():
        pytest.skip("needs the package dataset-fashion-mnist")
    given = yaml.safe_load(recipe.read_text())["lottery"]
    rounds = min(1, given["rounds"])
    arguments = ["run", str(recipe), "--lottery.rounds", str(rounds)]
    epochs = 1 if rounds else 3  # masks that move need some
    for name, value in {"max_epochs": epochs, "limit_train_batches": 2, "limit_val_batches": 1}.items():
        arguments += [f"--trainer.{name}", str(value)]
    if "fashion" in recipe.stem:  # whose tests are of 10,000 images
        arguments += ["--lottery.test_each_round", "false"]
        arguments += ["--data.init_args.validation", "200"]
    if given.get("rewind", "init") not in ("init", {"rule": "learning-rate"}):
        arguments += ["--lottery.rewind", "1it"]
    assert cli.main([*arguments, "--lottery.dirpath", str(tmp_path / "run")]) == 0
    run = Run(tmp_path / "run")
    assert run.rounds == list(range(rounds + 1))
    if rounds:
        assert run.masks[1].nested_in(run.masks[0])
        assert 0 < run.masks[1].kept < run.masks[0].kept
