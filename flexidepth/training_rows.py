"""The rows that a training run reads, with or without what the frozen half made of them. Knows no model and no
loss.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from flexidepth.hidden_cache import HiddenCache


class TrainingRows(Dataset):
    """Rows of token ids, every token also a label; hidden states beside them when a cache keeps them."""

    def __init__(self, rows: np.ndarray, cache: HiddenCache | None = None) -> None:
        self.rows = rows  # [N, T]
        self.cache = cache

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = torch.from_numpy(self.rows[index].astype(np.int64))
        item = {"input_ids": ids, "labels": ids.clone()}
        return item if self.cache is None else item | self.cache.row(index)
