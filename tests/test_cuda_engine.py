"""The cuda engine against the reference engine. Without a GPU its kernels run in Triton's interpreter, and are
compiled for two GPUs that are not there."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from flexidepth.engines import choose_engine
from flexidepth.engines.reference import ReferenceEngine
from flexidepth.errors import CheckpointError, EngineError, UsageError
from flexidepth.random_weights import random_model
from flexidepth.router import Router
from tests.conftest import GOLDEN, build_model
from tests.test_cpu_engine import SHAPES, fed, random_ids

pytest.importorskip("triton", reason="Triton is made for Linux only")
from flexidepth.engines.cuda import engine as cuda
from flexidepth.engines.cuda.memory import Tiles

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
# Several programs to most kernels, several tiles to wide rows, several stretches of positions; few to interpret.
TILES = Tiles(rows=64, columns=64, positions=8, splits=2)
LARGE_TILES = Tiles(rows=256, columns=64, positions=64, splits=2)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made():
    return cuda.CudaModel(build_model().to(DEVICE), tiles=TILES)


def engine_of(made, **settings):
    return cuda.CudaEngine(made, **{"threshold": made.model.config.threshold, **settings})


def reference_of(model, **settings):
    return ReferenceEngine(model, **{"threshold": model.config.threshold, **settings})


def close(found, expected):
    logits, gates, executed = (tensor.cpu() for tensor in expected)
    assert torch.equal(found[2], executed)
    torch.testing.assert_close(found[1], gates, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0], logits, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "biases"])
def test_it_equals_the_reference_engine(name):
    model = build_model(**SHAPES[name]).to(DEVICE)
    made = cuda.CudaModel(model, tiles=TILES)
    ids = random_ids(17)
    found = fed(engine_of(made), ids, 9)
    close(found, fed(reference_of(model), ids, 9))
    assert 0.1 < found[2][9:].float().mean() < 0.9, "a case in which nothing is decided shows nothing"


@pytest.mark.parametrize("routes", ["all", "none"])
def test_named_routes(made, routes):
    ids = random_ids(12)
    close(fed(engine_of(made, routes=routes), ids, 8), fed(reference_of(made.model, routes=routes), ids, 8))


def test_the_golden_checkpoint_passes_prompt_and_decode():
    model = AutoModelForCausalLM.from_pretrained(GOLDEN).eval().to(DEVICE)
    expected = load_file(GOLDEN / "expected.safetensors")
    made = cuda.CudaModel(model, tiles=LARGE_TILES)
    logits, gates, executed = fed(engine_of(made), expected["ids"].tolist(), 1)
    torch.testing.assert_close(gates.double(), expected["gates"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.double(), expected["logits"].double(), atol=1e-3, rtol=0)
    assert (model.config.always_on + executed.sum(-1)).tolist() == expected["layers_used"].tolist()


@pytest.mark.slow
def test_a_replayed_tape_gives_the_references_logits_for_256_tokens():
    shape = {"num_hidden_layers": 2, "routed_layers": [1], "max_position_embeddings": 512}
    model = build_model(**shape).to(DEVICE)
    made = cuda.CudaModel(model, tiles=LARGE_TILES)
    tape = torch.rand(260, 1, generator=torch.Generator().manual_seed(5)) < 0.5
    found = fed(engine_of(made, routes=tape), random_ids(260), 4)
    assert torch.equal(found[2], tape)
    close(found, fed(reference_of(model, routes=tape.to(DEVICE)), random_ids(260), 4))


def test_a_run_outgrows_its_memory_and_goes_on(monkeypatch):
    monkeypatch.setattr(cuda, "_FIRST_CAPACITY", 16)
    model = build_model().to(DEVICE)
    made = cuda.CudaModel(model, tiles=TILES)
    ids = random_ids(20)
    close(fed(engine_of(made), ids, 14), fed(reference_of(model), ids, 14))


def test_repeated_and_interleaved_runs_are_the_same_to_the_last_bit(made):
    engine, ids = engine_of(made), random_ids(12)
    first = fed(engine, ids, 8)
    (one, _), (other, _) = engine.prefill(ids[:8]), engine.prefill(ids[4:])
    for place, token in enumerate(ids[8:]):
        logits = engine.step(one, token).logits
        engine.step(other, token + 1)
        assert torch.equal(logits[0], first[0][8 + place])
    assert one.graph is not other.graph
    used = {id(one.graph), id(other.graph)}
    del one, other
    gc.collect()
    again, _ = engine.prefill(ids[:8])
    assert id(again.graph) in used, "a run that has ended leaves its memory to the next"


def test_the_pass_ahead_is_used_when_it_guessed_right_and_dropped_when_not(made):
    engine, reference = engine_of(made), reference_of(made.model)
    ids = random_ids(8)
    state, output = engine.prefill(ids)
    expected_state, _ = reference.prefill(ids)
    token, queued = int(output.logits[-1].argmax()), []
    for turn in range(6):
        before = state.graph._queued
        output = engine.step(state, token)
        queued.append(state.graph._queued - before)
        expected = reference.step(expected_state, token).logits.cpu()
        torch.testing.assert_close(output.logits, expected, atol=1e-3, rtol=0)
        assert state.guess == int(output.logits[-1].argmax())
        token = state.guess if turn < 2 else (state.guess + 1) % 256
    assert queued == [2, 1, 1, 1, 1, 1], "its own pass and one ahead, then one ahead only, then none ahead"


def test_what_a_token_skips_is_not_read():
    model = build_model(routed_layers=[1, 3]).to(DEVICE)
    ids, mask = random_ids(10), torch.tensor([True, False]).expand(10, -1)
    made = cuda.CudaModel(model, tiles=TILES)
    expected = fed(engine_of(made, routes=mask), ids, 6)
    state, _ = engine_of(made, routes=mask).prefill(ids[:6])
    skipped, run = model.model.layers[3], model.model.layers[1]
    poisoned = [skipped.self_attn.q_proj, skipped.self_attn.o_proj, *skipped.mlp.children()]
    with torch.no_grad():
        for module in [*poisoned, run.router_proj.gate_proj, run.router_proj.down_proj, run.router_proj.up_proj]:
            if isinstance(module, torch.nn.Linear):
                module.weight.fill_(float("nan"))
    engine = engine_of(made, routes=mask)
    for place, token in enumerate(ids[6:]):
        assert torch.equal(engine.step(state, token).logits[0], expected[0][6 + place])
    assert not engine_of(made, routes="all").prefill(ids)[1].logits.isfinite().any(), "the poison works"


def test_half_precision_stays_within_its_rounding():
    model = build_model().to(torch.bfloat16).to(DEVICE)
    whole = copy.deepcopy(model).float()
    tape = torch.rand(12, 2, generator=torch.Generator().manual_seed(2)) < 0.5
    ids = random_ids(12)
    logits, _, _ = fed(engine_of(cuda.CudaModel(model, tiles=TILES), routes=tape), ids, 1)
    exact, _, _ = fed(reference_of(whole, routes=tape.to(DEVICE)), ids, 1)
    rounded, _, _ = fed(reference_of(model, routes=tape.to(DEVICE)), ids, 1)
    assert (logits - exact.cpu()).norm() < 0.7 * (rounded - exact).norm().cpu(), "its sums are float32"


def test_without_routers_it_is_the_base_model(made):
    ids = random_ids(10)
    plain = fed(engine_of(made, routes="all", routers=False), ids, 6)
    routed = fed(engine_of(made, routes="all"), ids, 6)
    torch.testing.assert_close(plain[0], routed[0], atol=1e-4, rtol=0)
    assert plain[1][6:].count_nonzero() == 0


def test_bytes_are_those_of_the_matrices_that_a_token_meets(made):
    d, kv, ffn, heads = 32, 16, 64, 260 * 32 * 4
    layer, cache = 4 * (2 * d * d + 2 * d * kv + 3 * d * ffn), 2 * 4 * kv * 100
    router, adapter = 4 * d * 8, 4 * 3 * d * 16
    assert made.bytes_read(None, 100) == heads + 4 * (layer + cache)
    skipped = 4 * 2 * d * kv + router + adapter
    assert made.bytes_read([0.0, 1.0], 100) == heads + 3 * (layer + cache) + router + skipped


def test_bad_requests_are_refused(made):
    engine = engine_of(made)
    with pytest.raises(UsageError, match="not among the model's 260"):
        engine.prefill([1, 260])
    with pytest.raises(UsageError, match="256 positions"):
        engine.prefill([1] * 257)
    state, _ = (engine := engine_of(made, routes=torch.ones(5, 2, dtype=torch.bool))).prefill([1] * 5)
    with pytest.raises(UsageError, match="tape ends after 5"):
        engine.step(state, 1)


def test_models_that_it_does_not_compute_are_refused(make_model):
    with pytest.raises(EngineError, match="no biases"):
        cuda.CudaModel(make_model(**SHAPES["biases"]))
    with pytest.raises(EngineError, match="no activation 'gelu'"):
        cuda.CudaModel(make_model(hidden_act="gelu"))
    with pytest.raises(EngineError, match="of type 'dynamic'"):
        cuda.CudaModel(make_model(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}))
    broken, other = make_model(), make_model()
    with torch.no_grad():
        broken.model.layers[3].mlp.up_proj.weight[5, 5] = float("nan")
    with pytest.raises(CheckpointError, match=r"layers\.3\.mlp\.up_proj\.weight is not finite"):
        cuda.CudaModel(broken)
    other.model.layers[1].mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(60, 32))
    with pytest.raises(CheckpointError, match=r"\[60, 32\], the configuration says \[64, 32\]"):
        cuda.CudaModel(other)


def test_an_engine_that_computes_something_else_here_is_refused(monkeypatch):
    model = build_model().to(DEVICE)
    monkeypatch.setattr(Router, "folded", lambda _: torch.zeros(8, device=DEVICE))
    with pytest.raises(EngineError, match=r"differ by \d+\.\d% from the reference"):
        cuda.CudaModel(model, tiles=TILES)


@pytest.mark.skipif(GPU, reason="is about machines without a GPU")
def test_without_a_gpu_it_says_so(model):
    with pytest.raises(EngineError, match="whole model on one GPU"):
        choose_engine("cuda", model, routes="learned", threshold=0.5)


COMPILED = """
import sys
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from flexidepth.engines.cuda import launches, memory
from flexidepth.random_weights import random_model
model = random_model(sys.argv[1], "meta")
memory._rotations = lambda _, capacity: (torch.zeros(capacity, 64, device="meta"),) * 2
width = model.config.router_width
folded = [torch.zeros(width, device="meta")] * model.config.num_routed
tiles = memory.Tiles()
kinds = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int32: "*i32", torch.int8: "*i8"}
done = set()
for launch in launches.token_launches(model, folded, memory.RunMemory(model, 1024, tiles), tiles, routers=True):
    values = {name: launch.arguments[name] for name in launch.kernel.arg_names}
    constants = {name: value for name, value in values.items() if name.isupper()}
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    types = {name: "constexpr" if name in constants else "fp32" for name in values}
    types |= {name: kinds[value.dtype] for name, value in tensors.items()}
    key = (launch.kernel.__name__, *types.values(), *constants.values())
    if key in done:
        continue
    done.add(key)
    aligned = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(values) if name.endswith("weight")}
    for capability in (80, 90):
        source = ASTSource(fn=launch.kernel, signature=types, constexprs=constants, attrs=aligned)
        code = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": True})
        weights = [line for line in code.asm["ptx"].splitlines() if "ld.global" in line and "evict_first" in line]
        assert all(".v4.b32" in line for line in weights), "weights are read in sixteen bytes at a time"
        print(launch.kernel.__name__, capability, len(code.asm["cubin"]), len(weights))
"""


@pytest.mark.slow
def test_every_kernel_compiles_for_two_kinds_of_gpu(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    shape = str(ROOT / "assets" / "shapes" / "llama-3-8b.json")
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, shape],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compiled = [line.split() for line in done.stdout.splitlines()]
    kernels = {"embed", "project", "decide_and_query", "attend", "merge", "add_attention", "widen", "narrow"}
    assert {name for name, *_ in compiled} == kernels | {"predict", "advance"}
    assert {name for name, _, _, weights in compiled if int(weights)} == {
        "project",
        "decide_and_query",
        "add_attention",
        "widen",
        "narrow",
        "predict",
    }


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_on_a_gpu_skipped_layers_are_saved_time(tmp_path):
    shape = (ROOT / "assets" / "shapes" / "llama-3-8b.json").read_text(encoding="utf-8")
    small = tmp_path / "config.json"
    small.write_text(shape.replace('"vocab_size": 128256', '"vocab_size": 4096'), encoding="utf-8")
    model = random_model(small, "cuda")
    times = {}
    for routes in ("all", "none"):
        engine = choose_engine("auto", model, routes=routes, threshold=0.5)
        assert engine.name == "cuda", engine.about
        state, output = engine.prefill(list(range(100)))
        for _ in range(3):
            output = engine.step(state, int(output.logits[-1].argmax()))
        torch.cuda.synchronize()
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        for _ in range(20):
            output = engine.step(state, int(output.logits[-1].argmax()))
        ended.record()
        torch.cuda.synchronize()
        times[routes] = started.elapsed_time(ended)
    assert times["none"] < 0.75 * times["all"]
