"""The two trained modules of a routed layer, under the released parameter names. Knows nothing of layers or
attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from flexidepth.configuration import FlexiDepthConfig


class Float32Linear(nn.Linear):
    """A linear map without bias, in float32 whatever its weight is stored in. A module and no bare product with the
    weight: under a device map, accelerate brings a weight that lies elsewhere only when its module is called.
    """

    def forward(self, values: Tensor) -> Tensor:
        """[..., in] -> [..., out] float32"""
        return F.linear(values.float(), self.weight.float())


class Router(nn.Module):
    """Decides, token by token, whether a layer runs (paper, equation 1; order of the released code by default).

    logit = W_r W_up tanh(RMSNorm(W_down z)), z being the layer's own normalised input; gate = sigmoid(logit).
    Everything happens in float32, whatever the weights are stored in: near the threshold bfloat16 has too few steps to
    tell tokens apart.
    """

    def __init__(self, config: FlexiDepthConfig) -> None:
        super().__init__()
        self.tanh_first = config.router_order == "tanh-norm"
        self.router_enc = Float32Linear(config.hidden_size, config.router_width, bias=False)
        self.router_norm = LlamaRMSNorm(config.router_width, eps=config.rms_norm_eps)
        self.router_dec = Float32Linear(config.router_width, config.hidden_size, bias=False)
        self.router_head = Float32Linear(config.hidden_size, 1, bias=False)

    def features(self, normed: Tensor) -> Tensor:
        """[..., D] normalised layer input -> [..., D / reduction] float32, after norm and tanh."""
        reduced = self.router_enc(normed)
        return self.router_norm(torch.tanh(reduced)) if self.tanh_first else torch.tanh(self.router_norm(reduced))

    def logits(self, normed: Tensor) -> Tensor:
        """[..., D] normalised layer input -> [...] float32; a gate is the sigmoid of its logit."""
        return self.router_head(self.router_dec(self.features(normed))).squeeze(-1)

    def folded(self) -> Tensor:
        """[D / reduction] float32: the last two matrices as one vector, as nothing stands between them; a logit is its
        product with `features`.
        """
        head, widening = (part.weight.detach().double() for part in (self.router_head, self.router_dec))
        return (head @ widening).squeeze(0).float()

    def forward(self, normed: Tensor) -> Tensor:
        """[..., D] normalised layer input -> [...] gates in 0..1, float32."""
        with torch.autocast(normed.device.type, enabled=False):
            return torch.sigmoid(self.logits(normed))


class Adapter(nn.Module):
    """The narrow SwiGLU that stands in for a skipped FFN (paper, section 3.2).

    The released names are misleading and kept, so that released weights load as they are: `down_proj` widens nothing
    back but is the second input projection, and `up_proj` is the output projection.
    """

    def __init__(self, config: FlexiDepthConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.adapter_width, bias=False)
        self.down_proj = nn.Linear(config.hidden_size, config.adapter_width, bias=False)
        self.up_proj = nn.Linear(config.adapter_width, config.hidden_size, bias=False)

    def forward(self, normed: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.up_proj(F.silu(self.gate_proj(normed)) * self.down_proj(normed))
