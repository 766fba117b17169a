"""The losses of FlexiDepth training as pure tensor functions. Knows no model and no trainer.

Each returns a *sum over tokens*: who accumulates gradients divides by the token count of the whole batch, which is the
only way that one step of four rows and four steps of one row give the same gradient.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def skip_loss(gates: Tensor, counted: Tensor) -> Tensor:
    """Sum over counted tokens of (sum over routed layers of g)^2; the paper's L_skip times T.

    gates: [B, T, R]. counted: [B, T] bool. Squaring the sum pushes a deep token harder than a shallow one.
    """
    return (gates.sum(-1).square() * counted).sum()


def token_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || student) of each token in nats. logits: [..., V] -> [...]."""
    student = F.log_softmax(student_logits.float(), dim=-1)
    teacher = F.log_softmax(teacher_logits.float(), dim=-1)
    return F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1)


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, counted: Tensor) -> Tensor:
    """Sum over counted tokens of KL(teacher || student) in nats. logits: [B, T, V]. counted: [B, T] bool."""
    return (token_divergence(student_logits, teacher_logits) * counted).sum()


def language_model_loss(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Sum over counted tokens of the negative log-likelihood in nats. logits: [B, T, V], targets: [B, T] already
    shifted.
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    return (losses * counted).sum()
