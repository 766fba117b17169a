"""A tiny model in the layout of the authors' release: shards and their index, remote-code entries that are never
followed, a tokenizer whose chat template and list of end tokens are like Llama-3's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast

from flexidepth.configuration import DDLlamaConfig
from flexidepth.modeling import DDLlamaForCausalLM
from tests.conftest import OWN, SHAPE, byte_tokenizer

END_OF_TEXT, END_OF_TURN = 257, 259
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message['role'] }}<|end|>\n\n"
    "{{ message['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)


def write_released(directory: Path, *, shards: bool = True, seed: int = 3, **shape: Any) -> DDLlamaForCausalLM:
    """Writes the model in bfloat16 and returns it as it is in memory."""
    own = {name: value for name, value in OWN.items() if name != "gate_scaling"}
    torch.manual_seed(seed)
    model = DDLlamaForCausalLM(DDLlamaConfig(**SHAPE | own | shape)).eval()
    for name, parameter in model.named_parameters():
        if "router_head" in name or "router_dec" in name:
            torch.nn.init.normal_(parameter, std=0.6)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()  # not the whole model: rotary frequencies are never stored
    model.generation_config = GenerationConfig(bos_token_id=256, eos_token_id=[END_OF_TEXT, END_OF_TURN])
    model.save_pretrained(directory, max_shard_size="20KB" if shards else "1GB")
    config = json.loads((directory / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "configuration_ddllama.DDLlamaConfig",
        "AutoModelForCausalLM": "modeling_ddllama.DDLlamaForCausalLM",
    }
    for ours in ("gate_scaling", "router_order", "threshold"):  # the release has no such fields
        config.pop(ours)
    (directory / "config.json").write_text(json.dumps(config))
    tokenizer = byte_tokenizer()
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot|>"]}) == 1
    assert tokenizer.convert_tokens_to_ids("<|eot|>") == END_OF_TURN
    _save_as_in_4(tokenizer, directory)
    return model


def _save_as_in_4(tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """As transformers 4 wrote it: the template inside tokenizer_config.json, and the class by its older name."""
    tokenizer.save_pretrained(directory)
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    about = json.loads((directory / "tokenizer_config.json").read_text())
    about |= {"chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|eot|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(about))
