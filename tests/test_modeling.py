"""The model against the golden checkpoint, against its base, and against itself computed another way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, pipeline

from flexidepth.configuration import DDLlamaConfig
from flexidepth.errors import CheckpointError, ConfigError, UsageError
from flexidepth.modeling import DDLlamaForCausalLM, FlexiDepthForCausalLM
from flexidepth.training import recompute_activations
from tests.conftest import GOLDEN, SHAPE, build_model


@pytest.fixture(scope="module")
def golden():
    return AutoModelForCausalLM.from_pretrained(GOLDEN), load_file(GOLDEN / "expected.safetensors")


def base_of(model):
    """The untouched Llama model with the same weights."""
    config = model.config.to_dict()
    base = LlamaForCausalLM(LlamaForCausalLM.config_class(**{k: v for k, v in config.items() if k in BASE_KEYS}))
    base.load_state_dict({k: v for k, v in model.state_dict().items() if ".router" not in k}, strict=True)
    return base.to(model.dtype).eval()


BASE_KEYS = {
    *SHAPE,
    "tie_word_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "head_dim",
    "attention_bias",
    "mlp_bias",
}


def test_golden_gates_logits_and_layers(golden):
    model, expected = golden
    assert isinstance(model, DDLlamaForCausalLM)
    assert isinstance(model.config, DDLlamaConfig)
    with torch.inference_mode():
        outputs = model(expected["ids"].view(1, -1))
    torch.testing.assert_close(outputs.gates[0].double(), expected["gates"], atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs.logits[0].double(), expected["logits"].double(), atol=1e-3, rtol=0)
    assert (model.config.always_on + outputs.executed[0].sum(-1)).tolist() == expected["layers_used"].tolist()
    assert outputs.gates.dtype == torch.float32
    assert outputs.executed.dtype == torch.bool


def test_golden_greedy_continuation(golden):
    model, expected = golden
    prompt = expected["prompt_ids"].view(1, -1)
    made = model.generate(prompt, max_new_tokens=24, do_sample=False, eos_token_id=None)
    assert made[0].tolist() == expected["ids"].tolist()


def test_golden_step_by_step_equals_one_pass(golden):
    model, expected = golden
    ids = expected["ids"].view(1, -1)
    with torch.inference_mode():
        whole = model(ids)
        cache, gates = None, []
        for position in range(ids.shape[1]):
            step = model(ids[:, position : position + 1], past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            gates.append(step.gates[0, 0])
    torch.testing.assert_close(torch.stack(gates), whole.gates[0], atol=1e-4, rtol=0)
    assert torch.equal(torch.stack(gates) > 0.5, whole.executed[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_routes_equal_the_base_bit_for_bit(model, ids, dtype):
    model = model.to(dtype)
    base = base_of(model)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.inference_mode():
        assert torch.equal(model(ids, routes="all").logits, base(ids).logits)
        assert torch.equal(model(ids, mask, routes="all").logits, base(ids, mask).logits)
        assert not torch.equal(model(ids).logits, base(ids).logits)


def test_all_routes_generate_what_the_base_generates(model, ids):
    settings_ = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": 20,
        "do_sample": False,
        "eos_token_id": None,
    }
    assert torch.equal(model.generate(ids, routes="all", **settings_), base_of(model).generate(ids, **settings_))


def test_cached_decoding_equals_one_pass(model, ids):
    with torch.inference_mode():
        whole = model(ids)
        first = model(ids[:, :5], use_cache=True)
        logits, executed, cache = [first.logits], [first.executed], first.past_key_values
        for position in range(5, ids.shape[1]):
            step = model(ids[:, position : position + 1], past_key_values=cache, use_cache=True)
            logits.append(step.logits)
            executed.append(step.executed)
    assert torch.equal(torch.cat(executed, 1), whole.executed)
    torch.testing.assert_close(torch.cat(logits, 1), whole.logits, atol=1e-4, rtol=1e-4)
    assert 0 < whole.executed.float().mean() < 1, "the case must hold both kinds of rows"


def test_left_padded_batch_equals_single_rows(model, ids):
    short, long = ids[0, :6], ids[1]
    padded = torch.stack([torch.cat([torch.full((7,), 258), short]), long])
    mask = (padded != 258).long()
    with torch.inference_mode():
        batch = model(padded, mask)
        single = model(short[None])
        torch.testing.assert_close(batch.logits[0, 7:], single.logits[0], atol=1e-4, rtol=1e-4)
        assert torch.equal(batch.executed[0, 7:], single.executed[0])
        torch.testing.assert_close(batch.logits[1], model(long[None]).logits[0], atol=1e-4, rtol=1e-4)
    together = model.generate(padded, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=None)
    alone = model.generate(short[None], max_new_tokens=12, do_sample=False, eos_token_id=None)
    assert together[0, 13:].tolist() == alone[0, 6:].tolist()


def test_skipped_step_computes_only_keys_and_values(model, ids):
    """Neither query, output projection nor FFN is called when a whole step skips; the cache grows all the same."""
    called = []
    layer = model.model.layers[2]
    for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp", "self_attn.k_proj", "self_attn.v_proj", "router_proj"):
        layer.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.inference_mode():
        first = model(ids, use_cache=True, routes="none")
        model(ids[:, :1], past_key_values=first.past_key_values, use_cache=True, routes="none")
    assert sorted(called) == sorted(["self_attn.k_proj", "self_attn.v_proj", "router_proj"] * 2)
    assert first.past_key_values.get_seq_length(2) == ids.shape[1] + 1 == first.past_key_values.get_seq_length(0)


def test_skipped_keys_and_values_are_the_layers_own(model, ids):
    with torch.inference_mode():
        filled = model(ids, use_cache=True, routes="none").past_key_values
        hidden = model(ids, routes="none", output_hidden_states=True).hidden_states[2]
        run = model(ids, use_cache=True, routes="all").past_key_values
    torch.testing.assert_close(filled.layers[2].keys, run.layers[2].keys, atol=1e-5, rtol=1e-5)  # same input so far
    expected = model.model.layers[2].self_attn.v_proj(model.model.layers[2].input_layernorm(hidden))
    torch.testing.assert_close(filled.layers[2].values.transpose(1, 2).flatten(2), expected, atol=1e-6, rtol=1e-6)


def test_a_tape_repeats_a_learned_run_and_bad_routes_are_refused(model, ids):
    with torch.inference_mode():
        learned = model(ids)
        replayed = model(ids, routes=learned.executed)
        assert torch.equal(learned.logits, replayed.logits)
        with pytest.raises(UsageError, match=r"bool tensor \[2, 13, 2\]"):
            model(ids, routes=learned.executed[:, :4])
        with pytest.raises(UsageError, match="learned, all, none"):
            model(ids, routes="some")
        with pytest.raises(UsageError, match="between 0 and 1"):
            model(ids, threshold=float("nan"))


def test_threshold_overrides_one_pass_only(model, ids):
    with torch.inference_mode():
        learned = model(ids)
        assert model(ids, threshold=0.0).executed.all()
        assert not model(ids, threshold=1.0).executed.any()
        assert torch.equal(model(ids).executed, learned.executed)
    assert model.config.threshold == 0.5


def test_teacher_is_the_base_model(model, ids):
    outputs = model(ids, with_teacher=True)
    with torch.inference_mode():
        assert torch.equal(outputs.teacher_logits, model(ids, routes="all").logits)
    assert not outputs.teacher_logits.requires_grad


def test_hidden_states_are_those_of_transformers(model, ids):
    with torch.inference_mode():
        ours = model(ids, routes="all", output_hidden_states=True).hidden_states
        theirs = base_of(model)(ids, output_hidden_states=True).hidden_states
    assert len(ours) == len(theirs)
    for mine, base in zip(ours, theirs, strict=True):
        assert torch.equal(mine, base)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    heads=st.sampled_from([(4, 4), (4, 2), (4, 1), (6, 3)]),
    tied=st.booleans(),
    routed=st.sets(st.integers(0, 3), min_size=1).map(sorted),
    scaling=st.sampled_from(["scaled", "hard"]),
    order=st.sampled_from(["norm-tanh", "tanh-norm"]),
    seed=st.integers(0, 1000),
)
def test_paths_agree_on_random_configurations(heads, tied, routed, scaling, order, seed):
    """Sparse equals masked dense; cached equals uncached; all routes equal the base, whatever the shape."""
    model = build_model(
        seed,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        hidden_size=8 * heads[0],
        tie_word_embeddings=tied,
        routed_layers=routed,
        gate_scaling=scaling,
        router_order=order,
    )
    ids = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        sparse, dense = model(ids), model(ids, dense=True)
        torch.testing.assert_close(sparse.logits, dense.logits, atol=2e-4, rtol=1e-4)
        assert torch.equal(sparse.executed, dense.executed)
        # The routes are taken from the whole pass: at a tie of 1e-7 both choices are right.
        tape = sparse.executed
        first = model(ids[:, :4], use_cache=True, routes=tape[:, :4])
        rest = model(ids[:, 4:], past_key_values=first.past_key_values, use_cache=True, routes=tape[:, 4:])
        torch.testing.assert_close(rest.logits, sparse.logits[:, 4:], atol=2e-4, rtol=1e-4)
        assert torch.equal(model(ids, routes="all").logits, base_of(model)(ids).logits)


@pytest.mark.parametrize("order", ["norm-tanh", "tanh-norm"])
@pytest.mark.parametrize("scaling", ["scaled", "hard"])
def test_a_skipped_layer_is_the_formula(make_model, ids, scaling, order):
    """One routed layer against the design's arithmetic written out."""
    layer = make_model(gate_scaling=scaling, router_order=order, routed_layers=[0]).model.layers[0]
    router, adapter = layer.router, layer.router_proj
    h = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(3))
    x = layer.input_layernorm(h)
    z = x @ router.router_enc.weight.T

    def norm(v):
        return v * torch.rsqrt(v.square().mean(-1, keepdim=True) + layer.input_layernorm.variance_epsilon)

    z = torch.tanh(norm(z)) if order == "norm-tanh" else norm(torch.tanh(z))
    g = torch.sigmoid(z @ router.router_dec.weight.T @ router.router_head.weight.T)
    y = layer.post_attention_layernorm(h)
    inner = torch.nn.functional.silu(y @ adapter.gate_proj.weight.T) * (y @ adapter.down_proj.weight.T)
    out = inner @ adapter.up_proj.weight.T
    expected = h + ((1 - g) if scaling == "scaled" else 1.0) * out
    from flexidepth.layer import LayerRoute

    none = torch.zeros(1, 5, dtype=torch.bool)
    tables = (torch.ones(1, 5, 8), torch.zeros(1, 5, 8))
    found, gates, _ = layer(h, LayerRoute(0.5, none), position_embeddings=tables)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gates, g.squeeze(-1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scaling", ["scaled", "hard"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_routers_and_adapters_get_gradients(make_model, ids, scaling, checkpointing):
    model = make_model(gate_scaling=scaling).train()
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".router" in name)
    if checkpointing:
        recompute_activations(model)
    outputs = model(ids, use_cache=False)
    assert outputs.gates.requires_grad
    torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), ids.flatten()).backward()
    for name, parameter in model.named_parameters():
        if ".router" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_router_stays_float32_in_a_bfloat16_model(tmp_path, model):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    trained = [(name, p.dtype) for name, p in loaded.named_parameters() if ".router" in name]
    types = {name.split(".router")[1].split(".")[0]: dtype for name, dtype in trained}
    assert types == {"": torch.float32, "_proj": torch.bfloat16}
    assert loaded.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16


def test_save_and_load_whole_models(tmp_path, model, ids):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is FlexiDepthForCausalLM
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["gate_scaling"] == "scaled", "the arithmetic is stored, not left to a default"


def test_text_generation_pipeline(tmp_path, model, tokenizer):
    run = pipeline("text-generation", model=model, tokenizer=tokenizer)
    made = run("hello", max_new_tokens=5, do_sample=False, return_full_text=False)
    assert isinstance(made[0]["generated_text"], str)
    assert made == run("hello", max_new_tokens=5, do_sample=False, return_full_text=False)


def changed_golden(tmp_path, change_weights=None, **config):
    directory = tmp_path / "changed"
    shutil.copytree(GOLDEN, directory)
    settings_ = json.loads((directory / "config.json").read_text()) | config
    (directory / "config.json").write_text(json.dumps(settings_))
    if change_weights:
        state = load_file(directory / "model.safetensors")
        change_weights(state)
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def drop_routers(state):
    for name in [name for name in state if ".router" in name]:
        del state[name]


ENC, HEAD = "model.layers.4.router.router_enc.weight", "model.layers.4.router.router_head.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_routers, [r"missing", r"model\.layers\.3\.router\.router_dec\.weight", r"and \d+ more"]),
        (lambda s: s.pop(ENC), [ENC]),
        (lambda s: s.update({ENC: torch.zeros(3, 64)}), ["of another shape", ENC]),
        (
            lambda s: s.update({"model.layers.0.router.router_head.weight": s[HEAD].clone()}),
            ["unexpected", "layers.0.router"],
        ),
    ],
)
def test_misfitting_router_tensors_are_refused_by_name(tmp_path, change, words):
    with pytest.raises(CheckpointError) as error:
        AutoModelForCausalLM.from_pretrained(changed_golden(tmp_path, change))
    import re

    for word in words:
        assert re.search(word, str(error.value)), str(error.value)


def test_unknown_and_missing_configuration_keys_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="router_strength, soft_routing"):
        AutoConfig.from_pretrained(changed_golden(tmp_path, soft_routing=True, router_strength=2))
    shutil.rmtree(tmp_path / "changed")
    with pytest.raises(ConfigError, match="lacks routed_layers"):
        AutoModelForCausalLM.from_pretrained(changed_golden(tmp_path, routing_layers=None))


def test_remote_code_of_a_released_directory_is_never_asked_for(tmp_path):
    directory = changed_golden(
        tmp_path, auto_map={"AutoConfig": "configuration_ddllama.X", "AutoModelForCausalLM": "modeling_ddllama.Y"}
    )
    (directory / "modeling_ddllama.py").write_text("raise RuntimeError('remote code ran')")
    assert isinstance(AutoModelForCausalLM.from_pretrained(directory), DDLlamaForCausalLM)


@pytest.mark.parametrize("first", ["", "from transformers import AutoConfig", "from transformers import AutoModel"])
def test_importing_flexidepth_registers_in_any_order_and_loads_no_torch(first):
    code = f"""
import sys
{first}
import flexidepth, flexidepth.trace
{"" if first else 'assert "torch" not in sys.modules and "transformers" not in sys.modules'}
from transformers import AutoConfig
assert type(AutoConfig.from_pretrained({str(GOLDEN)!r})).__name__ == "DDLlamaConfig"
from transformers import AutoModelForCausalLM
print(type(AutoModelForCausalLM.from_pretrained({str(GOLDEN)!r})).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "DDLlamaForCausalLM", done.stderr
