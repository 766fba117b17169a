"""The checkpoint card: every number comes from the records beside the weights."""

import json
from xml.etree import ElementTree

import pytest

from analysis.card import loss_svg, write_card
from analysis.curve import curve_svg, curve_text
from flexidepth.errors import UsageError
from tests.test_curve import CURVE

LOG = [
    {
        "step": s,
        "loss": 1.0,
        "kl_loss": 0.5 / s,
        "skip_loss": 200.0 - s,
        "mean_layers_used": 30 - s / 10,
        "penalty": 1e-3,
    }
    for s in range(1, 21)
]


@pytest.fixture
def directory(tmp_path):
    record = {
        "settings": {
            "out": "/somewhere",
            "start_from": None,
            "data": "sharegpt",
            "objective": "distill",
            "skip_penalty": 0.001,
            "learning_rate": 0.002,
            "log_every": 1,
            "seed": 3,
            "gate_scaling": "hard",
            "sampled_gates": True,
            "keep_routers": False,
            "router_learning_rate": None,
            "target_depth": None,
        },
        "start": {"cost_left": [0.5, 0.7]},
        "tokens": {"warm_start": 1000, "joint": 2_500_000, "different": 50_000},
        "seconds": 600.0,
        "log": LOG,
        "notes": ["It went well."],
    }
    later = record | {"settings": record["settings"] | {"start_from": "/somewhere"}, "start": {}, "notes": []}
    record = later | {"before": record, "tokens": {"warm_start": 0, "joint": 7000, "different": 7000}}
    usage = [1.0, 1.0, 0.25, 0.75]
    score = {
        "documents": 9,
        "tokens": 4321,
        "nll": 2.2,
        "base_nll": 2.0,
        "kl_to_base": 0.1234,
        "routes": "learned",
        "source": "held-out:somewhere",
        "always_skipped": [],
        "mean_layers_used": 3.0,
    }
    score |= {"std_layers_used": 0.5, "num_layers": 4, "per_layer_usage": usage}
    card = {"base": "b", "base_fingerprint": "f00d", "config": {"routed_layers": [2, 3]}, "versions": {"torch": "2"}}
    for name, content in (("training.json", record), ("held-out.json", score), ("flexidepth.json", card)):
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def test_card_states_the_recorded_numbers(directory):
    text = write_card(directory, "Title", "a machine").read_text()
    for words in (
        "layers 3 to 4",
        "f00d",
        "3.00 of 4",
        "+10.0%",
        "0.1234",
        "| 3 | 25.0% |",
        "2,508,000",
        "20 minutes",
        "score held-out:somewhere`",
        "- One seed and",
    ):
        assert words in text
    assert "| seed | 3 |" in text
    assert "1. adapters fitted" in text
    assert "(60% of the cost left); 2,500,000 tokens in 20 steps" in text
    assert "seed 3. It went well.\n2. adapters from the stage before; 7,000 tokens" in text
    assert "gates hard and sampled, penalty 0.001" in text
    assert "/somewhere" not in text
    assert "through the same adapters" not in text, "no controls were scored"


def test_controls_are_told_when_they_were_scored(directory):
    score = json.loads((directory / "held-out.json").read_text())
    for routes, kl, skipped in (("random", 1.5, []), ("static", 0.75, [3])):
        control = score | {"routes": routes, "kl_to_base": kl, "always_skipped": skipped}
        (directory / f"held-out-{routes}.json").write_text(json.dumps(control))
    text = write_card(directory, "Title", "a machine").read_text()
    assert "| random, each layer at its learned rate | 3.00 | 2.2000 | 1.5000 |" in text
    assert "They are 4." in text


def test_data_of_our_own_are_named(directory):
    record = json.loads((directory / "training.json").read_text())
    assert "which the model wrote itself" not in write_card(directory, "Title", "a machine").read_text()
    record["settings"]["data"] = "assets/own.jsonl,sharegpt"
    (directory / "training.json").write_text(json.dumps(record))
    text = write_card(directory, "Title", "a machine").read_text()
    assert text.count("`assets/own.jsonl`, which the model wrote itself") == 1


def test_the_curve_is_told_and_drawn_when_there_is_one(directory):
    assert "Quality against depth" not in write_card(directory, "Title", "a machine").read_text()
    (directory / "curve.json").write_text(CURVE.to_json())
    text = write_card(directory, "Title", "a machine").read_text()
    assert "## Quality against depth" in text
    assert "for 60 steps at a penalty of its own" in text
    assert curve_text(CURVE) in text
    assert "- 2 seeds of the last stage" in text
    assert (directory / "curve.svg").read_text() == curve_svg(CURVE)


def test_loss_runs_from_corner_to_corner():
    root = ElementTree.fromstring(loss_svg(LOG))
    lines = [line.get("points").split() for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(points) for points in lines] == [20, 20]
    places = [tuple(map(float, point.split(","))) for point in lines[0]]
    assert places[0] == (min(x for x, _ in places), min(y for _, y in places)), "the highest loss comes first"
    assert places[-1] == (max(x for x, _ in places), max(y for _, y in places))


def test_a_missing_record_is_named_with_the_way_to_make_it(directory):
    (directory / "held-out.json").unlink()
    with pytest.raises(UsageError, match=r"held-out\.json is missing: python -m flexidepth score held-out:sharegpt"):
        write_card(directory, "Title", "a machine")
