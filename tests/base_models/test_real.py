"""The bundled base itself: its files against its GGUF, and the model that they make."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGUFReader, dequantize
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from flexidepth.base_models import MANIFEST, SMOLLM2_135M, _download, base_directory, damage
from tests.base_models.helpers import ROOT, both, hidden

TEXTS = [
    "12345", " Paris", "Paris", "a  1", "x\n\n1", "-7e10", "  lead", "trail  ", "\n", "\t\tx", "it's don't we'll I'M",
    "½²³ Ⅷ ٣", "hello 🦙🏽 日本語\n\n  ok\ttab", "é e\u0301 Å", "\u200b\u202e\ufeff", "def f(x):\n    return x  # 2\n",
    "<|im_start|>user\nhi<|im_end|>\n", "<repo_name>x", "…—“quoted”", " \u00a0 \u3000 ", "100,000  200", "a\r\nb",
]  # fmt: skip


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return base_directory("smollm2-135m")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> GGUFReader:
    return GGUFReader(_download(SMOLLM2_135M, tmp_path_factory.mktemp("gguf")))


@pytest.fixture(scope="module")
def reference(reader: GGUFReader) -> Tokenizer:
    """The GGUF's own vocabulary and merges behind the split that its pre-tokenizer "smollm" stands for."""
    fields = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in reader.fields.items()}
    assert (fields["model"], fields["pre"], fields["add_space_prefix"]) == ("gpt2", "smollm", False)
    tokens, merges = fields["tokens"], [tuple(merge.split(" ")) for merge in fields["merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    words = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in (r"\p{N}", words)]
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_only])
    tokenizer.add_special_tokens(
        [token for token, kind in zip(tokens, fields["token_type"], strict=True) if kind == 3]
    )
    return tokenizer


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_base_prepared_by_two_processes_at_once(smollm2: Path, tmp_path: Path) -> None:
    waiting, working = both("smollm2-135m", tmp_path)
    assert waiting == ["progress: waiting for another process that prepares SmolLM2-135M-Instruct", working[-1]]
    assert [line.split()[1] for line in working[:-1]] == ["preparing", "downloading", "converting", SMOLLM2_135M.title]
    assert working[-1] == f"path: {tmp_path / 'smollm2-135m'}"
    assert damage(SMOLLM2_135M, tmp_path / "smollm2-135m") is None
    assert hidden(tmp_path) == []
    files = [json.loads((d / MANIFEST).read_text())["files"] for d in (tmp_path / "smollm2-135m", smollm2)]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]


@pytest.mark.slow
def test_real_config(smollm2: Path) -> None:
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(smollm2)
    assert config.model_type == "llama"
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    assert (config.vocab_size, config.max_position_embeddings) == (49152, 8192)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 100000.0}
    assert config.tie_word_embeddings is True
    assert abs(config.rms_norm_eps - 1e-5) < 1e-12
    generation = GenerationConfig.from_pretrained(smollm2)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (1, 2, 2)


@pytest.mark.slow
def test_real_tokenizer_facts(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|im_start|>", 1)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.unk_token, tokenizer.unk_token_id) == ("<|endoftext|>", 0)
    assert (len(tokenizer), tokenizer.model_max_length) == (49152, 8192)
    assert sorted(tokenizer("x")) == ["attention_mask", "input_ids"]
    assert tokenizer.encode("12345") == tokenizer.convert_tokens_to_ids(list("12345"))
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a  12")) == ["a", "ĠĠ", "1", "2"]
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode(" Paris")) == ["ĠParis"]
    for token in range(17):
        assert tokenizer.decode([token], skip_special_tokens=True) == ""
        assert tokenizer.encode(tokenizer.decode([token])) == [token]
    asked = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.slow
def test_real_tokenizer_equals_the_ggufs_own(smollm2: Path, reference: Tokenizer) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text).ids, text
        assert tokenizer.decode(ids) == text

    @settings(max_examples=500, deadline=None)
    @given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t0127'aé<|"))))
    def same(text: str) -> None:
        assert tokenizer.encode(text) == reference.encode(text).ids

    same()


@pytest.mark.slow
def test_real_weights_are_the_ggufs(smollm2: Path, reader: GGUFReader) -> None:
    """Every tensor, dequantised by the gguf package; llama.cpp interleaves the halves of each query and key head."""
    import torch
    from safetensors.torch import load_file

    saved = load_file(smollm2 / "model.safetensors")
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    names |= {
        "attn_output": "self_attn.o_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    names |= {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    whole = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        name = whole[parts[0]] if parts[0] != "blk" else f"model.layers.{parts[1]}.{names[parts[2]]}.weight"
        values = dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in tensor.shape[::-1]])
        if parts[-2] in ("attn_q", "attn_k"):
            values = values.reshape(-1, 32, 2, 576).swapaxes(1, 2).reshape(values.shape)
        assert torch.equal(saved.pop(name), torch.tensor(values, dtype=torch.bfloat16)), name
    assert not saved


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_real_model_answers_paris(smollm2: Path, dtype: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=dtype)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0]
    assert tokenizer.decode(output[inputs["input_ids"].shape[1] :]) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_real_base_loads_from_a_warm_cache_in_under_five_seconds(smollm2: Path) -> None:
    code = """
import time
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
start = time.perf_counter()
from flexidepth.base_models import base_directory
directory = base_directory("smollm2-135m")
AutoTokenizer.from_pretrained(directory)
AutoModelForCausalLM.from_pretrained(directory)
print(time.perf_counter() - start)
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak.split()[1])
"""
    env = {**os.environ, "FLEXIDEPTH_CACHE": str(smollm2.parent)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    seconds, peak_kilobytes = map(float, ran.stdout.split())
    assert seconds < 5
    assert peak_kilobytes < 2_000_000
