"""The benchmark: its arithmetic on contenders with known times, and the command on a tiny model."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field

import pytest
import torch

from flexidepth.bench import Depth, Row, measure, table
from flexidepth.cli import main
from flexidepth.contenders import EngineContender, Timed, plain_llama
from flexidepth.engines.cpu.engine import CpuModel
from tests.conftest import OWN, SHAPE, build_model, needs_compiler

pytestmark = needs_compiler


@dataclass
class Known:
    """A contender whose tokens take a known time; bytes: of the base model, and of a routed layer that runs."""

    name: str
    seconds: list[float]
    executed: list[list[bool]] | None = None
    read: tuple[float, float] | None = None
    weight_bytes: int = 5_000_000
    calls: list[tuple[int, int]] = field(default_factory=list)

    def run(self, ids, tokens):
        self.calls.append((len(ids), tokens))
        return Timed(1.0, self.seconds, self.executed)

    def bytes_read(self, shares, positions):
        if self.read is None:
            return None
        whole, layer = self.read
        return whole if shares is None else whole - layer * sum(1 - share for share in shares)


def measured(contenders, rounds=3):
    reports: list[int] = []
    result = measure(
        contenders,
        {10: list(range(10))},
        tokens=5,
        rounds=rounds,
        num_layers=6,
        num_routed=2,
        report=lambda: reports.append(1),
    )
    return result, len(reports)


def test_rows_hold_medians_and_compare_with_their_own_vanilla_and_with_transformers():
    flags = [[True, True], [True, True], [False, True], [False, True]]
    vanilla = Known("cpu vanilla", [0.010, 0.010, 0.010, 0.050], None, (8e6, 1e6))
    learned = Known("cpu learned", [0.008, 0.008, 0.009, 0.008], flags, (8e6, 1e6))
    theirs = Known("transformers dynamic", [0.04] * 4)
    result, reports = measured([vanilla, learned, theirs])
    assert reports == 3 * (3 + 1)
    rows = {row.name: row for row in result.rows}
    first, second, third = rows["cpu vanilla"], rows["cpu learned"], rows["transformers dynamic"]
    assert first.tokens_per_second == pytest.approx(100)
    assert (first.ms_p50, first.first_token_ms) == (pytest.approx(10), pytest.approx(1000))
    assert first.ms_p95 == pytest.approx(50), "a quarter of its tokens take so long"
    assert (first.over_vanilla, first.byte_ideal, first.mean_layers_used) == (1, 1, 6)
    assert second.mean_layers_used == pytest.approx(4 + (2 + 4) / 4)
    assert second.byte_ideal == pytest.approx(8 / 7.5)
    assert second.over_vanilla == pytest.approx(1.25)
    assert second.share_of_ideal == pytest.approx(1.25 / (8 / 7.5))
    assert second.over_transformers == pytest.approx(5)
    assert second.by_depth == {"5": Depth(6, pytest.approx(8.5)), "6": Depth(6, pytest.approx(8))}
    assert first.by_depth == {}
    assert first.gigabytes_per_second == pytest.approx(0.8)
    assert first.share_of_copy == pytest.approx(0.8 / result.copy_gb_s)
    assert (third.over_vanilla, third.byte_ideal, third.gigabytes_per_second) == (None, None, None)
    text = table(result.rows)
    assert text.splitlines()[0].startswith("context 10")
    assert [line.split("  ")[0] for line in text.splitlines()[1:4]] == [row.name for row in result.rows]


def test_a_row_that_skips_nothing_is_refused():
    idle = Known("cpu learned", [0.01] * 4, [[True, True]] * 4, (8e6, 1e6))
    result, _ = measured([Known("cpu vanilla", [0.01] * 4, None, (8e6, 1e6)), idle])
    assert [row.name for row in result.rows] == ["cpu vanilla"]
    assert result.refused == ["cpu learned at 10"]


def test_contenders_take_turns_in_changing_order():
    order: list[str] = []

    class Noting(Known):
        def run(self, ids, tokens):
            order.append(self.name)
            return super().run(ids, tokens)

    measured([Noting(name, [0.01] * 4) for name in "abc"])
    assert order == list("abc") + list("abc") + list("bca") + list("cab")


def test_bytes_are_those_of_the_matrices_that_a_token_meets():
    model = build_model(tie_word_embeddings=True)
    read = CpuModel(model, threads=1).bytes_read
    d, kv, ffn, heads = 32, 16, 64, 260 * 32 * 4
    layer = 4 * (2 * d * d + 2 * d * kv + 3 * d * ffn)
    assert read(None, 0) == heads + 4 * layer
    cache = 2 * 4 * kv * 100
    assert read(None, 100) == heads + 4 * (layer + cache)
    router, adapter = 4 * d * 8, 4 * 3 * d * 16
    skipped = 4 * 2 * d * kv + router + adapter
    assert read([0.0, 1.0], 100) == heads + 3 * (layer + cache) + router + skipped
    assert read([0.25, 1.0], 0) == pytest.approx(heads + 3 * layer + router + 0.25 * (layer + router) + 0.75 * skipped)


def test_the_plain_model_is_the_base():
    model = build_model()
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        expected = model(ids, routes="all").logits
        torch.testing.assert_close(plain_llama(model, torch.float32)(ids).logits, expected)
        short = plain_llama(model, torch.bfloat16)(ids).logits.float()
        assert 0 < (short - expected).abs().max() < 0.3
        assert torch.equal(model(ids, routes="all").logits, expected), "the model itself is as it was"
    assert EngineContender("cpu vanilla", model, "cpu", "vanilla").run(list(range(9)), 8).executed is None


def test_the_command_prints_one_object_with_every_row(tiny, capsys):
    common = ["bench", "--model", tiny, "--contexts", "24,32", "--tokens", "8", "--rounds", "2"]
    assert main([*common, "--engines", "cpu,cpu-int8,reference,transformers", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    rows = [Row(**row) for row in result["rows"]]
    assert sum(each["tokens"] for each in rows[1].by_depth.values()) == 2 * 7
    refused = captured.err.count("left out")
    assert len(rows) + refused == 2 * (5 + 5 + 2 + 1)
    names = {row.name for row in rows}
    assert {"cpu vanilla", "cpu all", "cpu none", "cpu static", "transformers dynamic"} <= names
    for row in rows:
        assert row.tokens_per_second == pytest.approx(1000 / row.ms_p50)
        assert row.spread[0] <= row.spread[1]
        assert 2 <= row.mean_layers_used <= 4
    assert {row.mean_layers_used for row in rows if row.name.endswith("none")} == {2}
    assert result["machine"]["copy_gb_s"] > 0
    assert main([*common, "--engines", "cpu"]) == 0
    assert "context 24" in capsys.readouterr().out


def test_a_shape_is_timed_with_random_weights_and_says_so(tmp_path, capsys):
    shape = tmp_path / "small.json"
    shape.write_text(json.dumps({"model_type": "flexidepth", **SHAPE, **OWN}))
    arguments = ["bench", "--shape", str(shape), "--contexts", "24", "--tokens", "40", "--rounds", "1", "--json"]
    assert main([*arguments, "--device", "cpu", "--engines", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["machine"]["weights"] == "random, in the shape of small.json"
    learned = next(row for row in result["rows"] if row["name"] == "cpu learned")
    assert 2 < learned["mean_layers_used"] < 4
    shape.write_text("{}")
    assert main(["bench", "--shape", str(shape)]) == 2
    assert "describes no FlexiDepth model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engines", "warp"], "no 'warp'"),
        (["--contexts", "many"], "whole numbers"),
        (["--contexts", "100000"], "lower --contexts"),
        (["--contexts", "4"], "must lie between"),
        (["--gguf", "nowhere.gguf"], "no file at nowhere.gguf"),
        (["--tokens", "1"], "at least 8"),
    ],
)
def test_mistakes_are_one_line(tiny, arguments, words, capsys):
    assert main(["bench", "--model", tiny, "--tokens", "8", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_llama_cpp_without_its_package_says_what_to_install(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    assert main(["bench", "--model", tiny, "--contexts", "24", "--gguf", str(tmp_path / "some.gguf")]) == 2
    assert "pip install llama-cpp-python" in capsys.readouterr().err
