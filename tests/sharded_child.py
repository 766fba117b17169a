"""One of two processes that share a tiny model (FSDP2): a training step and a save, told on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from flexidepth import checkpoint
from flexidepth.losses import skip_loss
from flexidepth.starting_point import freeze_base
from tests.conftest import build_model


def main(directory: Path, *, shared: bool) -> None:
    model = build_model(seed=3, gate_scaling="hard").train()
    freeze_base(model)
    fingerprint = checkpoint.base_fingerprint(model)
    if shared:
        torch.distributed.init_process_group("gloo")
        mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    ids = torch.arange(24).view(2, 12)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(2):
        outputs = model(ids, labels=ids, use_cache=False)
        loss = outputs.loss + 0.1 * skip_loss(outputs.gates, torch.ones_like(ids, dtype=torch.bool)) / ids.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    state = checkpoint.whole_state(model)
    if not shared or torch.distributed.get_rank() == 0:
        checkpoint.save(model, directory, base="b", state=state, fingerprint=fingerprint)
        (directory / "losses.json").write_text(json.dumps(losses))
    if shared:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
