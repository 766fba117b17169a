"""The controls: rates are met, the greedy subset is the best one where it can be checked, nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from flexidepth import scoring
from flexidepth.controls import drawn_tape, least_harmful, static_rates
from flexidepth.errors import UsageError


def test_drawn_tapes_meet_the_rates():
    rates = torch.tensor([0.0, 0.25, 0.9, 1.0], dtype=torch.float64)
    tape = drawn_tape(rates, (1, 20_000), torch.Generator().manual_seed(0))
    assert tape.shape == (1, 20_000, 4)
    assert tape.float().mean((0, 1)).tolist() == pytest.approx(rates.tolist(), abs=0.01)
    assert torch.equal(tape, drawn_tape(rates, (1, 20_000), torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("chosen", "count", "rates"),
    [
        ([3, 1], 2.0, [1, 0, 1, 0]),
        ([3, 1], 1.25, [1, 0.75, 1, 0]),
        ([2], 0.4, [1, 1, 0.6, 1]),
        ([], 0.0, [1, 1, 1, 1]),
    ],
)
def test_static_rates_skip_as_many_layers_as_asked(chosen, count, rates):
    found = static_rates(chosen, 4, count)
    assert found.tolist() == pytest.approx(rates)
    assert (1 - found).sum().item() == pytest.approx(count)


def test_the_least_harmful_layer_is_the_one_with_the_lowest_kl(make_model, ids):
    model = make_model(num_hidden_layers=6, routed_layers=[2, 3, 4, 5])
    windows = [ids[:1], ids[1:]]

    def harm(skipped):
        total = 0.0
        rates = static_rates(skipped, 4, len(skipped))
        for x in windows:
            with torch.inference_mode():
                base = model(x, routes="all").logits.log_softmax(-1)
                routed = model(x, routes=(rates > 0.5).expand(*x.shape, 4)).logits.log_softmax(-1)
            total += F.kl_div(routed, base, log_target=True, reduction="sum").item()
        return total

    (first,) = least_harmful(model, windows, 1)
    assert first == min(range(4), key=lambda layer: harm([layer]))
    pair = least_harmful(model, windows, 2)
    assert pair[0] == first, "in the order of choice"
    assert harm(pair) == pytest.approx(min(harm([first, other]) for other in range(4) if other != first))


@pytest.mark.parametrize("routes", ["random", "static", "static-equal"])
def test_controls_in_the_score(make_model, tokenizer, tmp_path, routes):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(f"Line {number}: some text to read, as it comes." for number in range(60)))
    model = make_model(num_hidden_layers=6, routed_layers=[2, 3, 4, 5])
    learned = scoring.score(model, tokenizer, path)
    told = []
    control = scoring.score(model, tokenizer, path, routes=routes, seed=1, report=lambda *step: told.append(step))
    assert told[-1] == (120, 120)
    assert control.tokens == learned.tokens
    assert control.base_nll == learned.base_nll
    if routes == "random":
        assert control.per_layer_usage == pytest.approx(learned.per_layer_usage, abs=0.05)
        again = scoring.score(model, tokenizer, path, routes=routes, seed=1)
        assert again.kl_to_base == control.kl_to_base
    elif routes == "static":
        assert control.mean_layers_used == 6 - len(control.always_skipped), "the same layers for every token"
        assert abs(control.mean_layers_used - learned.mean_layers_used) <= 0.5
        assert all(control.per_layer_usage[layer] == 0 for layer in control.always_skipped)
    else:
        *always, last = control.always_skipped
        assert control.mean_layers_used == pytest.approx(learned.mean_layers_used, abs=0.05), "equal depth"
        assert all(control.per_layer_usage[layer] == 0 for layer in always)
        assert 0 <= control.per_layer_usage[last] < 1
        others = set(range(6)) - set(control.always_skipped)
        assert all(control.per_layer_usage[layer] == 1 for layer in others)


def test_unknown_routes_are_refused(model, tokenizer, tmp_path):
    with pytest.raises(UsageError, match="learned, all, none, random, static, static-equal"):
        scoring.score(model, tokenizer, tmp_path / "text.txt", routes="some")
