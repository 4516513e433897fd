"""Other people's architectures, with random weights and small inputs; and those of the tests, which are ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from architectures import ARCHITECTURES
from torch import Tensor, nn

from lottery.foundations.tensors_in import with_tensors

Made = tuple[nn.Module, Callable[[int, int], Any]]
"""The network, and what gives inputs of a batch size and another size."""

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
    kinds = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS, "own": " ".join(ARCHITECTURES)}
    return [f"{kind}/{name}" for kind, listed in kinds.items() for name in listed.split()]


def make(name: str) -> Made:
    """A network with random weights, in eval mode and float64."""
    torch.manual_seed(0)
    kind, _, model = name.partition("/")
    if kind == "own":
        module, inputs = ARCHITECTURES[model]()
        return module.double().eval(), lambda batch, more: double(inputs(batch, more))
    # a CPU build of torch has no compiled operators of torchvision, whose import asks for these two
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
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


def double(value: object) -> object:
    return with_tensors(value, lambda t: t.double() if t.is_floating_point() else t)


def images(size: int, fixed: bool) -> Callable[[int, int], Tensor]:
    return lambda batch, more: torch.randn(batch, 3, *[size + (0 if fixed else 32 * more)] * 2).double()
