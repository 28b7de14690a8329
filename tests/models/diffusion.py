"""A tiny Stable Diffusion with random weights, and images with what they show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from tests.models.saved import make_tokenizer

diffusers: Any = pytest.importorskip("diffusers")
TEXTS = ["a red square", "the old house", "two birds", "a quiet river"]
WIDTH = 16


def pipeline() -> Any:
    """The same weights at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = make_tokenizer(TEXTS)
        words.model_max_length = 6
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=WIDTH,
                intermediate_size=WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=6,
            )
        )
        return diffusers.StableDiffusionPipeline(
            vae=diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
            text_encoder=text_encoder,
            tokenizer=words,
            unet=unet(),
            scheduler=diffusers.DDPMScheduler(clip_sample=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def unet() -> torch.nn.Module:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(WIDTH, 2 * WIDTH),
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


def image_batches(count: int = 2) -> list[tuple[torch.Tensor, list[str]]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1, TEXTS) for _ in range(count)]
