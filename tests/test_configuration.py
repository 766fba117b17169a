"""Configurations: what is derived, what is refused, and what goes to disk."""

import subprocess
import sys

import pytest
from transformers import AutoConfig, LlamaConfig, Qwen2Config

from flexidepth.configuration import DDLlamaConfig, FlexiDepthConfig
from flexidepth.errors import ConfigError
from tests.conftest import GOLDEN, OWN, SHAPE


def test_derived_sizes():
    config = FlexiDepthConfig(**SHAPE | OWN)
    assert (config.router_width, config.adapter_width, config.always_on, config.num_routed) == (8, 16, 2, 2)


def test_released_names_are_read_and_written():
    config = AutoConfig.from_pretrained(GOLDEN)
    assert isinstance(config, DDLlamaConfig)
    assert (config.routed_layers, config.adapter_reduction_factor, config.gate_scaling) == ([3, 4, 5], 16, "scaled")
    written = config.to_dict()
    assert written["routing_layers"] == [3, 4, 5]
    assert written["proj_reduction_factor"] == 16
    assert not {"routed_layers", "adapter_reduction_factor"} & set(written)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"routed_layers": [3, 2]}, "rising"),
        ({"routed_layers": [2, 4]}, "0 to 3"),
        ({"routed_layers": []}, "rising"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
        ({"gate_scaling": "soft"}, "scaled, hard"),
        ({"router_order": "tanh"}, "norm-tanh, tanh-norm"),
        ({"router_reduction_factor": 64}, "between 1 and 32"),
        ({"adapter_reduction_factor": 0}, "between 1 and 64"),
        ({"depth_bias": 1, "colour": 2}, "colour, depth_bias"),
    ],
)
def test_bad_values_are_refused_by_name(change, words):
    with pytest.raises(ConfigError, match=words):
        FlexiDepthConfig(**SHAPE | OWN | change)


def test_what_only_the_checkpoint_knows_is_never_guessed():
    for missing in ("gate_scaling", "routed_layers"):
        config = FlexiDepthConfig(**SHAPE | OWN | {missing: None})
        with pytest.raises(ConfigError, match=missing):
            config.require_complete()


def test_from_base_without_our_fields_is_the_base(tmp_path):
    base = LlamaConfig(**SHAPE)
    config = FlexiDepthConfig.from_base(base, **OWN)
    for key, value in base.to_dict().items():
        if key not in ("model_type", "architectures", "transformers_version", "dtype"):
            assert config.to_dict()[key] == value, key
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path).to_dict()
    assert loaded | {"_name_or_path": ""} == config.to_dict()
    with pytest.raises(ConfigError, match="qwen2"):
        FlexiDepthConfig.from_base(Qwen2Config())


@pytest.mark.parametrize("first", ["Trainer", "LlamaForCausalLM", "LlamaConfig"])
@pytest.mark.parametrize("ours_first", [True, False])
def test_auto_classes_know_the_model_types_whatever_is_imported_first(first, ours_first):
    """Each of these runs this package's import hooks at another point half-way through the import of transformers."""
    imports = ["import flexidepth", f"from transformers import {first}"]
    script = [
        *(imports if ours_first else reversed(imports)),
        "from transformers import AutoConfig, AutoModelForCausalLM",
        "config = AutoConfig.for_model('flexidepth')",
        "assert AutoModelForCausalLM._model_mapping[type(config)] is flexidepth.FlexiDepthForCausalLM",
        "assert type(AutoConfig.for_model('ddllama')) is flexidepth.DDLlamaConfig",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(script)], check=True)
