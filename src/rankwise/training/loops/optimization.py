"""The optimizer and its learning-rate schedule, the same for all loops."""

from __future__ import annotations

from typing import Any

import torch
from peft import AdaLoraModel, PeftModel
from torch import Tensor, nn
from transformers import get_scheduler

from rankwise.methods.adapters.lora_xs import correct_core_gradients
from rankwise.methods.factor_optimizers import muon, riemannian
from rankwise.methods.optimizer import parameter_groups
from rankwise.training.settings.adapters import (
    DeloraSettings,
    FullSettings,
    LoraSettings,
    LoraXsSettings,
)
from rankwise.training.settings.run import RunSettings, TrainingSettings


def build_optimizer(model: nn.Module, settings: RunSettings) -> torch.optim.Optimizer:
    """Return AdamW, SGD or Muon on the trainable parameters.

    Full fine-tuning has no factors for Muon, and takes AdamW in its place.
    DeLoRA's strength has its own rate and no decay, the factors B of LoRA+ a multiple of the rate.
    With ``gradient_correction`` it corrects the gradients of cores before each step, after
    clipping; with ``riemannian_reg`` it preconditions those of factors.
    """
    adapter, training = settings.method.adapter, settings.training
    groups = parameter_groups(
        model,
        lr=training.learning_rate,
        lambda_lr=adapter.lambda_learning_rate if isinstance(adapter, DeloraSettings) else None,
        weight_decay=training.weight_decay,
        b_ratio=adapter.loraplus_lr_ratio if isinstance(adapter, LoraSettings) else None,
    )
    if training.optimizer == "muon" and not isinstance(adapter, FullSettings):
        optimizer = muon(model, groups)
    else:
        # One fused kernel instead of some dozen small ones: it matters for networks this small.
        kind: type[torch.optim.Optimizer] = torch.optim.AdamW
        options: dict[str, Any] = {"fused": True}
        if training.optimizer == "sgd":
            kind, options = torch.optim.SGD, {"momentum": training.momentum}
        if isinstance(adapter, LoraSettings) and adapter.riemannian_reg is not None:
            assert isinstance(model, PeftModel)
            reg = adapter.riemannian_reg
            optimizer = riemannian(model, groups, kind, reg=reg, **options)
        else:
            optimizer = kind(groups, **options)  # type: ignore[arg-type]
    if isinstance(adapter, LoraXsSettings) and adapter.gradient_correction:
        optimizer.register_step_pre_hook(lambda *_: correct_core_gradients(model))
    return optimizer


class AdamWOfRuns(torch.optim.AdamW):
    """AdamW, fused, with the tensors of many runs listed once, and not anew at each step.

    The state is kept as AdamW keeps it, of each parameter by itself. After a change of it, or of
    which parameters have gradients, call :meth:`gather`.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, fused=True)
        self._lists: list[_AtOnce] = []

    def gather(self) -> None:
        """List what trains; what has no state yet begins at none."""
        self._lists = []
        for group in self.param_groups:
            by_step: dict[float, _AtOnce] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "step": torch.zeros((), dtype=torch.float32),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
                count = float(self.state[parameter]["step"])
                by_step.setdefault(count, _AtOnce(group)).add(parameter, self.state[parameter])
            self._lists += by_step.values()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step of every parameter that was listed."""
        for each in self._lists:
            each.take_step()


class _AtOnce:
    """Parameters of one group that have made as many steps."""

    def __init__(self, group: dict[str, Any]) -> None:
        self._group = group
        self._tensors: tuple[list[Tensor], ...] = ([], [], [], [])
        self._step = torch.zeros((), dtype=torch.float32)

    def add(self, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
        assert parameter.grad is not None
        self._step = state["step"] if not self._tensors[0] else self._step
        state["step"] = self._step  # one for all
        new = (parameter.data, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        for listed, tensor in zip(self._tensors, new, strict=True):
            listed.append(tensor)

    def take_step(self) -> None:
        self._step += 1
        group, (beta1, beta2) = self._group, self._group["betas"]
        fused: Any = torch._fused_adamw_  # type: ignore[reportPrivateImportUsage]  # AdamW's own
        fused(
            *self._tensors,
            [],
            [self._step] * len(self._tensors[0]),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


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
