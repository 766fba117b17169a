"""The losses against their formulas."""

import pytest
import torch

from flexidepth.losses import distillation_loss, language_model_loss, skip_loss


def test_skip_loss_is_the_squared_sum_of_gates():
    gates = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.2, 0.4]]])  # [1, 3, 2]
    counted = torch.tensor([[True, False, True]])
    assert skip_loss(gates, counted).item() == pytest.approx(1.0 + 0.36)


def test_distillation_loss_is_the_divergence_from_the_teacher():
    student, teacher = torch.randn(1, 3, 7), torch.randn(1, 3, 7)
    counted = torch.tensor([[True, True, False]])
    p, q = teacher.softmax(-1), student.softmax(-1)
    expected = (p * (p.log() - q.log())).sum(-1)[0, :2].sum()
    torch.testing.assert_close(distillation_loss(student, teacher, counted), expected)
    assert distillation_loss(teacher, teacher, counted).item() == pytest.approx(0.0, abs=1e-6)


def test_language_model_loss_leaves_uncounted_tokens_out():
    logits, targets = torch.randn(1, 3, 7), torch.tensor([[1, 2, 3]])
    counted = torch.tensor([[True, False, True]])
    expected = -(logits.log_softmax(-1)[0, 0, 1] + logits.log_softmax(-1)[0, 2, 3])
    torch.testing.assert_close(language_model_loss(logits, targets, counted), expected)
