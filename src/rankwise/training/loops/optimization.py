"""The optimizer and its learning-rate schedule, the same for all loops."""

from __future__ import annotations

import torch
from peft import AdaLoraModel
from torch import nn
from transformers import get_scheduler

from rankwise.methods.adapters.lora_xs import correct_core_gradients
from rankwise.methods.optimizer import parameter_groups
from rankwise.training.settings.method import DeloraSettings, LoraSettings, LoraXsSettings
from rankwise.training.settings.run import RunSettings, TrainingSettings


def build_optimizer(model: nn.Module, settings: RunSettings) -> torch.optim.Optimizer:
    """Return AdamW or SGD on the trainable parameters.

    DeLoRA's strength has its own rate and no decay, the factors B of LoRA+ a multiple of the rate.
    With ``gradient_correction`` it corrects the gradients of cores before each step, after
    clipping.
    """
    adapter, training = settings.method.adapter, settings.training
    groups = parameter_groups(
        model,
        lr=training.learning_rate,
        lambda_lr=adapter.lambda_learning_rate if isinstance(adapter, DeloraSettings) else None,
        weight_decay=training.weight_decay,
        b_ratio=adapter.loraplus_lr_ratio if isinstance(adapter, LoraSettings) else None,
    )
    if training.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=training.momentum)
    else:
        # One fused kernel instead of some dozen small ones: it matters for networks this small.
        optimizer = torch.optim.AdamW(groups, fused=True)
    if isinstance(adapter, LoraXsSettings) and adapter.gradient_correction:
        optimizer.register_step_pre_hook(lambda *_: correct_core_gradients(model))
    return optimizer


def allocate_budget(model: nn.Module, step: int) -> None:
    """Let AdaLoRA move its rank between layers; call it between a step and zeroing the gradients.

    Zhang et al. 2023, arXiv 2303.10512; of other models nothing.
    """
    tuner = getattr(model, "base_model", None)
    if isinstance(tuner, AdaLoraModel):
        tuner.update_and_allocate(step)


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters that ``optimizer`` trains."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def build_schedule(
    optimizer: torch.optim.Optimizer, training: TrainingSettings, *, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule over ``steps`` optimizer steps, as Transformers defines it."""
    return get_scheduler(
        # Transformers' "constant" ignores a warm-up; this one with none of it is the same.
        "constant_with_warmup" if training.scheduler == "constant" else training.scheduler,
        optimizer,
        num_warmup_steps=warmup_steps(training, steps=steps),
        num_training_steps=steps,
    )


def warmup_steps(training: TrainingSettings, *, steps: int) -> int:
    """Return the number of warm-up steps among ``steps``."""
    return round(training.warmup_ratio * steps)


def first_step_learning_rate(training: TrainingSettings, *, steps: int) -> float:
    """Return the rate of the first step that moves a weight (a warm-up begins at zero).

    This is the η of LoRA-SB's ΔW = -η sign(ΣG) (arXiv 2411.19557, Section 3).
    """
    return training.learning_rate / max(1, warmup_steps(training, steps=steps))
