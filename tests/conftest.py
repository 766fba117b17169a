"""Tiny models and a byte tokenizer, made on the spot: enough to check every path, no download."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which transformers does

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from flexidepth import checkpoint
from flexidepth.configuration import FlexiDepthConfig
from flexidepth.engines.cpu import binding
from flexidepth.modeling import FlexiDepthForCausalLM

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, binding.COMPILERS)), reason="no C++ compiler: install g++ or clang++"
)
torch.set_num_threads(1)  # tiny tensors: a second thread only waits
GOLDEN = Path(__file__).parent / "golden" / "ddllama-tiny"
SHAPE: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
    "initializer_range": 0.2,
}
OWN: dict[str, Any] = {
    "routed_layers": [2, 3],
    "router_reduction_factor": 4,
    "adapter_reduction_factor": 4,
    "gate_scaling": "scaled",
}


def build_model(seed: int = 0, **overrides: Any) -> FlexiDepthForCausalLM:
    """A random model whose gates spread on both sides of the threshold instead of crowding at it."""
    torch.manual_seed(seed)
    model = FlexiDepthForCausalLM(FlexiDepthConfig(**SHAPE | OWN | overrides))
    for name, parameter in model.named_parameters():
        if "router_head" in name or "router_dec" in name:
            torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


@pytest.fixture
def model() -> FlexiDepthForCausalLM:
    return build_model()


@pytest.fixture
def make_model() -> Callable[..., FlexiDepthForCausalLM]:
    return build_model


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 256, (2, 13), generator=torch.Generator().manual_seed(1))  # [B, T]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that a character can be spread over four tokens; three special tokens; a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, "<s>", "</s>", "<pad>"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = (
        "{% for message in messages %}<s>{{ message['role'][0] }}:{{ message['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>a:{% endif %}"
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain tiny Llama model with its tokenizer on disk."""
    directory = tmp_path_factory.mktemp("base")
    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, base_dir: Path) -> str:
    """A checkpoint directory on the tiny base."""
    directory = tmp_path_factory.mktemp("tiny") / "ours"
    model = checkpoint.from_base(base_dir, {**OWN, "threshold": 0.5, "router_order": "norm-tanh"})
    checkpoint.save(model, directory, base=str(base_dir))
    return str(directory)
