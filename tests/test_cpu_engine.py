"""The cpu engine against the reference engine, the golden checkpoint, and itself computed another way."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, DynamicCache

from flexidepth.engines import choose_engine, reference
from flexidepth.engines.cpu import binding, weights
from flexidepth.engines.cpu.engine import CpuEngine, CpuModel
from flexidepth.engines.reference import ReferenceEngine
from flexidepth.errors import CheckpointError, EngineError, UsageError
from tests.conftest import GOLDEN, build_model, needs_compiler

pytestmark = needs_compiler

SHAPES = {
    "grouped heads, tied": {"tie_word_embeddings": True},
    "one head for keys, scattered routes": {"num_key_value_heads": 1, "routed_layers": [0, 2]},
    "every layer routed": {"routed_layers": [0, 1, 2, 3]},
    "heads wider than the hidden state": {"head_dim": 24},
    "odd widths": {"hidden_size": 36, "intermediate_size": 52, "num_attention_heads": 3, "num_key_value_heads": 3},
    "wide rows": {"hidden_size": 192, "intermediate_size": 320, "num_attention_heads": 3, "num_key_value_heads": 1},
    "hard gates": {"gate_scaling": "hard"},
    "tanh before the norm": {"router_order": "tanh-norm"},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "scaled rotary embedding": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
}
LEVELS = range(len(binding.LEVELS))


def with_biases(model):
    """Biases start at zero, where nobody would miss them."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def engine_of(model, *, threads=1, level=None, precision="exact", **settings):
    made = CpuModel(model, threads=threads, level=level, precision=precision)
    return CpuEngine(made, **{"threshold": model.config.threshold, **settings})


def fed(engine, ids, first):
    """Logits, gates and executed of `first` prompt tokens together and the others one by one."""
    state, output = engine.prefill(ids[:first], all_logits=True)
    outputs = [output, *(engine.step(state, token) for token in ids[first:])]
    return tuple(torch.cat([getattr(one, name) for one in outputs]) for name in ("logits", "gates", "executed"))


def random_ids(count, seed=3):
    return torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(params=LEVELS)
def level(request):
    if request.param > binding.library().fdx_best_level():
        pytest.skip(f"this processor has no {binding.LEVELS[request.param]}")
    return request.param


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("routes", ["learned", "all", "none"])
def test_it_equals_the_reference_engine(name, routes):
    model = with_biases(build_model(**SHAPES[name]))
    ids = random_ids(60)
    logits, gates, executed = fed(engine_of(model, routes=routes, threads=2), ids, 37)
    expected = fed(ReferenceEngine(model, routes=routes, threshold=0.5), ids, 37)
    assert torch.equal(executed, expected[2])
    torch.testing.assert_close(gates, expected[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, expected[0], atol=1e-3, rtol=1e-4)
    if routes == "learned":
        assert 0.1 < executed.float().mean() < 0.9, "a case in which nothing is decided shows nothing"


def test_every_instruction_set_gives_the_same(level):
    model = build_model(hidden_size=80, intermediate_size=200, num_attention_heads=2, num_key_value_heads=1)
    ids = random_ids(30)
    logits, gates, executed = fed(engine_of(model, level=level), ids, 21)
    expected = fed(ReferenceEngine(model, routes="learned", threshold=0.5), ids, 21)
    assert torch.equal(executed, expected[2])
    torch.testing.assert_close(gates, expected[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, expected[0], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["auto", "cpu", "reference"])
def test_the_golden_checkpoint_passes_through_every_engine(name):
    model = AutoModelForCausalLM.from_pretrained(GOLDEN).eval()
    expected = load_file(GOLDEN / "expected.safetensors")
    ids = expected["ids"].tolist()
    engine = choose_engine(name, model, routes="learned", threshold=model.config.threshold)
    _, output = engine.prefill(ids, all_logits=True)
    torch.testing.assert_close(output.gates.double(), expected["gates"], atol=1e-4, rtol=0)
    torch.testing.assert_close(output.logits.double(), expected["logits"].double(), atol=1e-3, rtol=0)
    assert (model.config.always_on + output.executed.sum(-1)).tolist() == expected["layers_used"].tolist()


def test_a_prompt_and_its_tokens_one_by_one_are_the_same_to_the_last_bit(level):
    model = build_model(hidden_size=80, intermediate_size=200, num_attention_heads=2, num_key_value_heads=1)
    ids = random_ids(50)
    engine = engine_of(model, level=level)
    together, one_by_one = fed(engine, ids, 50), fed(engine, ids, 1)
    assert all(map(torch.equal, together, one_by_one))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_and_repetition_change_no_bit(threads):
    model = build_model(hidden_size=80, intermediate_size=200, num_attention_heads=2, num_key_value_heads=1)
    ids = random_ids(40)
    alone = fed(engine_of(model), ids, 25)
    engine = engine_of(model, threads=threads)
    for _ in range(3):
        assert all(map(torch.equal, fed(engine, ids, 25), alone))


def test_a_replayed_tape_gives_the_references_logits_for_256_tokens(make_model):
    model = make_model(max_position_embeddings=512)
    ids = random_ids(270)
    tape = torch.rand(270, 2, generator=torch.Generator().manual_seed(5)) < 0.5
    logits, _, executed = fed(engine_of(model, routes=tape, threads=2), ids, 14)
    expected = fed(ReferenceEngine(model, routes=tape, threshold=0.5), ids, 14)
    assert torch.equal(executed, tape)
    torch.testing.assert_close(logits, expected[0], atol=1e-3, rtol=1e-4)
    state, _ = (engine := engine_of(model, routes=tape[:20])).prefill(ids[:20])
    with pytest.raises(UsageError, match="tape ends after 20"):
        engine.step(state, 1)


def test_without_routers_it_is_the_base_model(model):
    ids = random_ids(30)
    plain = fed(engine_of(model, routes="all", routers=False), ids, 9)
    routed = fed(engine_of(model, routes="all"), ids, 9)
    assert torch.equal(plain[0], routed[0])
    assert plain[1].count_nonzero() == 0
    assert routed[1].count_nonzero() == routed[1].numel()


def test_weights_that_fit_16_bits_are_kept_in_16_and_others_whole(make_model):
    whole = make_model()
    short = make_model().to(torch.bfloat16).float()
    assert CpuModel(short, threads=1).weights.bytes < 0.6 * CpuModel(whole, threads=1).weights.bytes
    ids = random_ids(20)
    found = fed(engine_of(short), ids, 20)
    expected = fed(ReferenceEngine(short, routes="learned", threshold=0.5), ids, 20)
    torch.testing.assert_close(found[0], expected[0], atol=1e-3, rtol=1e-4)


def test_a_large_model_is_read_where_it_is(make_model, monkeypatch):
    monkeypatch.setattr(weights, "COPIED_LIMIT", 0)
    short = make_model().to(torch.bfloat16)
    whole = make_model().to(torch.bfloat16).float()
    made = CpuModel(short, threads=1)
    assert made.weights.layers[0].gate.data == short.model.layers[0].mlp.gate_proj.weight.data_ptr()
    ids = random_ids(20)
    found = fed(CpuEngine(made, threshold=0.5), ids, 13)
    monkeypatch.undo()
    assert all(map(torch.equal, found, fed(engine_of(whole), ids, 13)))
    monkeypatch.setattr(weights, "COPIED_LIMIT", 0)
    with pytest.raises(EngineError, match="load it with dtype bfloat16"):
        CpuModel(whole, threads=1)
    assert CpuModel(whole, threads=1, precision="int8").weights.bytes < made.weights.bytes


class HalfCache(DynamicCache):
    """Keeps keys and values rounded to bfloat16, as the engine does beside 8-bit weights."""

    def update(self, keys, values, *args, **kwargs):
        return super().update(keys.bfloat16().float(), values.bfloat16().float(), *args, **kwargs)


def test_eight_bits_round_every_row_to_a_half_step(make_model, monkeypatch):
    model = make_model()
    rounded = make_model()
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            if parameter.dim() == 2 and "router_" not in name.replace("router_proj", ""):
                steps = parameter.abs().amax(1, keepdim=True) / 127
                parameter.copy_((parameter / steps).round() * steps)
    monkeypatch.setattr(reference, "DynamicCache", HalfCache)
    ids = random_ids(20)
    found = fed(engine_of(model, precision="int8"), ids, 13)
    expected = fed(ReferenceEngine(rounded, routes="learned", threshold=0.5), ids, 13)
    torch.testing.assert_close(found[0], expected[0], atol=2e-3, rtol=1e-3)


def test_a_token_that_does_not_exist_and_a_full_context_are_refused(model):
    engine = engine_of(model)
    with pytest.raises(UsageError, match="not among the model's 260"):
        engine.prefill([1, 260])
    with pytest.raises(UsageError, match="256 positions"):
        engine.prefill([1] * 257)
    state, _ = engine.prefill([1] * 256)
    with pytest.raises(UsageError, match="256 positions"):
        engine.step(state, 1)


def test_broken_weights_are_refused_by_every_way_in(model):
    with torch.no_grad():
        model.model.layers[3].mlp.up_proj.weight[5, 5] = float("nan")
    for name in ("cpu", "cpu-int8", "auto"):
        with pytest.raises(CheckpointError, match="not finite"):
            choose_engine(name, model, routes="learned", threshold=0.5)


def test_a_weight_of_another_shape_is_refused(model):
    model.model.layers[1].mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(60, 32))
    with pytest.raises(CheckpointError, match=r"\[60, 32\], the configuration says \[64, 32\]"):
        choose_engine("cpu", model, routes="learned", threshold=0.5)


def test_a_model_with_an_engine_can_be_copied_and_pickled(model):
    choose_engine("cpu", model, routes="learned", threshold=0.5)
    ids = random_ids(5)
    expected = choose_engine("cpu", model, routes="learned", threshold=0.5).prefill(ids)[1].logits
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found = choose_engine("cpu", again, routes="learned", threshold=0.5)
        assert torch.equal(found.prefill(ids)[1].logits, expected)


def test_auto_is_the_cpu_engine_and_is_made_ready_once(model):
    first, second = (choose_engine("auto", model, routes="learned", threshold=0.5) for _ in range(2))
    assert (first.name, first.model) == ("cpu", second.model)
    assert "MB of weights" in first.about
    ids = random_ids(5)
    before = first.prefill(ids)[1].logits
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(3)
    changed = choose_engine("auto", model, routes="learned", threshold=0.5)
    assert not torch.allclose(changed.prefill(ids)[1].logits, before)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_act": "gelu"}, "no activation 'gelu'"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "of type 'dynamic'"),
    ],
)
def test_a_model_that_it_does_not_compute_goes_to_the_reference_and_says_why(make_model, change, reason):
    model = make_model(**change)
    engine = choose_engine("auto", model, routes="learned", threshold=0.5)
    assert engine.name == "reference"
    assert reason in engine.about
    with pytest.raises(EngineError, match=reason):
        choose_engine("cpu", model, routes="learned", threshold=0.5)


def test_without_a_compiler_the_reference_runs_and_says_what_to_install(model, monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXIDEPTH_CACHE", str(tmp_path))
    monkeypatch.setattr(binding.shutil, "which", lambda _: None)
    engine = choose_engine("auto", model, routes="learned", threshold=0.5)
    assert (engine.name, engine.about) == (
        "reference",
        "the cpu engine needs a C++ compiler: install g++ or clang++",
    )


def test_a_broken_library_in_the_cache_is_said(tmp_path):
    binding.library(tmp_path)
    (kept,) = tmp_path.glob("*.so")
    broken = tmp_path / "other"
    broken.mkdir()
    (broken / kept.name).write_text("no library")
    with pytest.raises(EngineError, match="delete it"):
        binding.library(broken)


def test_runs_leave_no_memory_behind(make_model):
    model = make_model(hidden_size=64, max_position_embeddings=2048)
    engine = engine_of(model, threads=2)

    def some(tokens):
        for _ in range(tokens // 1000):
            state, output = engine.prefill(random_ids(100))
            for _ in range(900):
                output = engine.step(state, int(output.logits[-1].argmax()))

    some(2000)
    process = psutil.Process()
    before = process.memory_info().rss
    some(10_000)
    assert process.memory_info().rss - before < 4e6


FORKED = """
import os
import torch
from flexidepth.engines.cpu.engine import CpuEngine, CpuModel
from tests.conftest import build_model
model = CpuModel(build_model(), threads=3)
engine = CpuEngine(model, threshold=0.5)
expected = engine.prefill([1, 2, 3])[1].logits
def same():
    return torch.equal(engine.prefill([1, 2, 3])[1].logits, expected)
for used in (True, False):
    child = os.fork()
    if child == 0:
        raise SystemExit(0 if not used or same() and same() else 1)
    assert os.waitpid(child, 0)[1] == 0
print("same" if same() else "other")
"""


def test_a_forked_process_starts_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]


SANITIZED = """
import torch
from flexidepth.engines.cpu import binding, engine
from tests.conftest import build_model
from tests.test_cpu_engine import SHAPES, random_ids, with_biases
plain = binding.library
binding.library = lambda: plain(flags=("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"))
for shape in SHAPES.values():
    model = with_biases(build_model(**shape))
    for precision in ("exact", "int8"):
        for level in range(plain().fdx_best_level() + 1):
            made = engine.CpuModel(model, threads=2, level=level, precision=precision)
            for routes in ("learned", "none"):
                one = engine.CpuEngine(made, routes=routes, threshold=0.5)
                state, _ = one.prefill(random_ids(37), all_logits=True)
                for token in random_ids(5):
                    one.step(state, token)
print("clean")
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs gcc's sanitizers on Linux")
def test_address_and_behaviour_sanitizers_find_nothing():
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {**os.environ, "LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", SANITIZED], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.stdout.strip() == "clean", done.stderr[-2000:]
