"""Other people's architectures: half of the units pruned, the network made smaller, beside Torch-Pruning.

    python benchmarks/networks.py [--only 'torchvision/*'] [--seconds 300] [--jobs 2]

Each network, with random weights and a small input, is pruned to half of the units of each layer (where its structure
allows), compacted, compared in float64 at the example's size and at others, and trained one step further. Torch-Pruning
makes the same network smaller at the same share, where it can; it does not compare. "fully" is as many parameters as
the masks keep, to 2 %. Needs torchvision (of which the Python part alone will do), timm, transformers and
torch-pruning: `pip install --no-deps torchvision timm torch-pruning`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Callable[[int, int], Any]]  # the network, and inputs of a batch size and another size

TORCHVISION = (
    "alexnet vgg11 vgg11_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 googlenet inception_v3"
    " mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 mnasnet1_0 shufflenet_v2_x0_5 shufflenet_v2_x1_0"
    " squeezenet1_0 squeezenet1_1 efficientnet_b0 efficientnet_v2_s regnet_x_400mf regnet_y_400mf convnext_tiny swin_t"
    " swin_v2_t vit_b_16 maxvit_t fcn_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large r3d_18"
)
TIMM = (
    "resnet10t resnet14t resnet18 resnet26t seresnext26t_32x4d ecaresnet26t skresnet18 res2net50_26w_4s res2next50"
    " dla34 dla46x_c densenet121 dpn48b dpn68 hrnet_w18_small ese_vovnet19b_dw cspresnet50 cspdarknet53 darknet53"
    " mobilenetv2_035 mobilenetv3_small_050 mobilenetv4_conv_small mnasnet_small efficientnet_lite0 tinynet_e"
    " ghostnet_050 ghostnetv2_100 rexnet_100 rexnetr_100 regnetx_002 regnety_002 repvgg_a0 mobileone_s0 fbnetc_100"
    " selecsls42b convnext_atto convnextv2_atto inception_next_atto poolformer_s12 edgenext_xx_small mobilevit_xxs"
    " fastvit_t8 levit_128s efficientformer_l1 nf_resnet26 vit_tiny_patch16_224 deit_tiny_patch16_224 mixer_s32_224"
    " resmlp_12_224 starnet_s1 lcnet_050 pvt_v2_b0"
)
TRANSFORMERS = "bert distilbert roberta electra albert gpt2 opt llama t5 vit convnextv2 segformer mobilevit wav2vec2"
FIXED = {"alexnet": 224, "maxvit_t": 224, "vit_b_16": 224, "inception_v3": 128}  # other sizes do not fit


def names() -> list[str]:
    kinds = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS}
    return [f"{kind}/{name}" for kind, listed in kinds.items() for name in listed.split()]


def make(name: str) -> Made:
    """A network with random weights, in eval mode and float64."""
    # a CPU build of torch has no compiled operators of torchvision, whose import asks for these two
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.manual_seed(0)
    kind, _, model = name.partition("/")
    module, inputs = {"torchvision": of_torchvision, "timm": of_timm, "transformers": of_transformers}[kind](model)
    return module.double().eval(), inputs


def of_torchvision(name: str) -> Made:
    import torchvision

    extra: dict[str, Any] = {"weights_backbone": None} if name.startswith(("fcn", "deeplab", "lraspp")) else {}
    extra |= {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    module = torchvision.models.get_model(name, weights=None, num_classes=10, **extra)
    if name == "r3d_18":
        return module, lambda batch, more: torch.randn(batch, 3, 8, 32 + 16 * more, 32 + 16 * more).double()
    return module, images(FIXED.get(name, 64), name in FIXED)


def of_timm(name: str) -> Made:
    import timm

    fixed = name.endswith("_224") or name.startswith(("levit", "efficientformer"))
    return timm.create_model(name, pretrained=False, num_classes=10), images(224 if fixed else 64, fixed)


def of_transformers(name: str) -> Made:
    import transformers as hf

    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text |= {"vocab_size": 100, "max_position_embeddings": 64}
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    configs: dict[str, tuple[Any, Any]] = {
        "bert": (hf.BertForSequenceClassification, hf.BertConfig(**text)),
        "roberta": (hf.RobertaForSequenceClassification, hf.RobertaConfig(**text, pad_token_id=0)),
        "electra": (hf.ElectraForSequenceClassification, hf.ElectraConfig(**text, embedding_size=32)),
        "albert": (hf.AlbertForSequenceClassification, hf.AlbertConfig(**text, embedding_size=16)),
        "distilbert": (
            hf.DistilBertForSequenceClassification,
            hf.DistilBertConfig(vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
        ),
        "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
        "opt": (
            hf.OPTForCausalLM,
            hf.OPTConfig(
                vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64,
                max_position_embeddings=64, word_embed_proj_dim=32,
            ),
        ),
        "llama": (hf.LlamaForCausalLM, hf.LlamaConfig(**text, num_key_value_heads=2)),
        "t5": (
            hf.T5EncoderModel,
            hf.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        ),
        "vit": (hf.ViTForImageClassification, hf.ViTConfig(**vision, image_size=32, patch_size=8)),
        "convnextv2": (
            hf.ConvNextV2ForImageClassification,
            hf.ConvNextV2Config(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
        ),
        "segformer": (
            hf.SegformerForSemanticSegmentation,
            hf.SegformerConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16),
        ),
        "mobilevit": (
            hf.MobileViTForImageClassification,
            hf.MobileViTConfig(image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 64]),
        ),
        "wav2vec2": (
            hf.Wav2Vec2ForSequenceClassification,
            hf.Wav2Vec2Config(**{**text, "vocab_size": 32}, conv_dim=(16,) * 7, num_conv_pos_embeddings=16),
        ),
    }  # fmt: skip
    make_model, config = configs[name]
    module = make_model(config)
    if name in ("vit", "convnextv2", "segformer", "mobilevit"):
        size = {"vit": 32}.get(name, 64)
        return module, images(size, fixed=name in ("vit", "mobilevit"))
    if name == "wav2vec2":
        return module, lambda batch, more: torch.randn(batch, 1600 + 800 * more).double()
    return module, lambda batch, more: torch.randint(1, 100, (batch, 16 + 5 * more))


def images(size: int, fixed: bool) -> Callable[[int, int], Tensor]:
    return lambda batch, more: torch.randn(batch, 3, *[size + (0 if fixed else 32 * more)] * 2).double()


def ours(name: str) -> dict[str, Any]:
    """What becomes of a network: how far it shrinks, and whether it gives the same."""
    from lottery import Masks, Pruning
    from lottery.deploy import bake, compact
    from lottery.masks.prunable import prunable_parameters

    module, inputs = make(name)
    parameters = prunable_parameters(module, (), ())
    masks = Masks.ones(parameters)
    scores = {n: p.detach().abs() for n, p in parameters.items()}
    pruning = Pruning(0.5, structure="channel", scope="layerwise", collapse="warn")
    example = inputs(2, 0)
    try:
        masks = pruning.next_masks(scores, masks, 1, module=module, example_input=example)
    except Exception as error:  # noqa: BLE001 (what is refused, and how, is what is measured)
        return {"outcome": "refused before training", "why": said(error)}
    bake(module, masks)
    before = count(module)
    promised = before - int(sum((~m).sum() for m in masks.values()))
    try:
        found = compact(module, example)
    except Exception as error:  # noqa: BLE001
        return {"outcome": "refused later", "why": said(error), "before": before, "promised": promised}
    small = found.module
    wrong = [f"batch {b}, size {s}" for b, s in ((2, 0), (3, 0), (2, 1), (1, 2)) if apart(module, small, inputs(b, s))]
    after = count(small)
    gone, asked = before - after, before - promised
    outcome = "fully" if gone >= 0.98 * asked else "partly" if gone > 0 else "nothing"
    if wrong:
        outcome = "WRONG"
    return {
        "outcome": outcome,
        "why": "; ".join([*wrong, *sorted({why for why in dict(found.stayed).values()})[:2]]),
        "before": before,
        "promised": promised,
        "after": after,
        "trains": trains(small, inputs(4, 0)),
    }


def theirs(name: str) -> int | str:
    """The parameters that Torch-Pruning leaves at the same share, or its error."""
    import torch_pruning as tp

    module, inputs = make(name)
    head = [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features == 10]
    try:
        example = inputs(2, 0)
        named = {"input_ids": example} if not example.is_floating_point() else example
        pruner = tp.pruner.MagnitudePruner(
            module, named, importance=tp.importance.MagnitudeImportance(), pruning_ratio=0.5, ignored_layers=head,
            output_transform=lambda y: sum(t.sum() for t in tensors(y)),
        )  # fmt: skip
        pruner.step()
        module(example)
    except Exception as error:  # noqa: BLE001
        return said(error)
    return count(module)


def tensors(value: object) -> list[Tensor]:
    from lottery.foundations.tensors_in import tensors_in

    return [t for t in tensors_in(value) if t.is_floating_point()]


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module, x: Tensor) -> bool:
    """Whether two networks give other outputs, to 1e-8 of their scale; not where the first takes no such input."""
    try:
        expected = tensors(one(x))
    except Exception:  # noqa: BLE001
        return False
    try:
        found = tensors(other(x))
    except Exception:  # noqa: BLE001
        return True
    pairs = zip(expected, found, strict=True)
    return any(
        a.shape != b.shape or float((a - b).abs().max()) > 1e-8 * max(1.0, float(a.abs().max())) for a, b in pairs
    )


def trains(module: nn.Module, x: Tensor) -> str:
    """ "yes", or why a step of training fails."""
    module.train()
    try:
        optimizer = torch.optim.SGD(module.parameters(), 1e-3)
        torch.stack([t.square().mean() for t in tensors(module(x))]).sum().backward()
        optimizer.step()
    except Exception as error:  # noqa: BLE001
        return said(error)
    return "yes"


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]


def one(name: str) -> None:
    """Prints what is found of a network, first without what Torch-Pruning makes of it, which may take forever."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {"name": name, **ours(name)}
    print(json.dumps(found), flush=True)
    print(json.dumps({**found, "torch-pruning": theirs(name)}))


def in_a_process(name: str, seconds: float) -> dict[str, Any]:
    try:
        ended = subprocess.run(
            [sys.executable, __file__, "--one", name], capture_output=True, text=True, timeout=seconds, check=False
        )
        return json.loads(ended.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as late:
        if lines := (late.stdout or b"").splitlines():
            return {**json.loads(lines[-1]), "torch-pruning": f"over {seconds:g} s"}
        return {"name": name, "outcome": "too slow", "why": f"over {seconds:g} s"}
    except (ValueError, IndexError):
        return {
            "name": name,
            "outcome": "error",
            "why": ended.stderr.strip().splitlines()[-1][:160] if ended.stderr else "",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="a pattern of names, such as 'timm/res*'")
    parser.add_argument("--seconds", type=float, default=300.0, help="the most that a network may take")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one)
        return
    chosen = [name for name in names() if fnmatch.fnmatch(name, arguments.only)]
    outcomes: dict[str, int] = {}
    columns = ("name", "outcome", "before", "promised", "after", "torch-pruning", "trains", "why")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for found in pool.map(lambda name: in_a_process(name, arguments.seconds), chosen):
            outcomes[found["outcome"]] = outcomes.get(found["outcome"], 0) + 1
            cells = [found.get(column, "-") for column in columns]
            print(
                "|", " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells), "|", flush=True
            )
    print(
        "\n" + ", ".join(f"{kind}: {number}" for kind, number in sorted(outcomes.items())) + f"; {len(chosen)} in all"
    )


if __name__ == "__main__":
    main()
