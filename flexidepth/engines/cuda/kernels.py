"""The kernels of one token, in Triton. Vectors are float32; weights are read in the type that they are stored in.

Every kernel of a routed layer loads that layer's flag from the device and returns before it touches a weight that the
token does not need: a graph of them is recorded once and skips for itself. Knows no model, no memory plan and no host.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def embed(token, table, hidden, COLUMNS: tl.constexpr, STEP: tl.constexpr):
    """hidden [D] = table[token]"""
    at = tl.program_id(0) * STEP + tl.arange(0, STEP)
    inside = at < COLUMNS
    row = tl.load(token).to(tl.int64) * COLUMNS
    tl.store(hidden + at, tl.load(table + row + at, mask=inside).to(tl.float32), mask=inside)


@triton.jit
def project(
    hidden, norm, eps, query_weight, key_weight, value_weight, router_weight, queries, keys, values, reduced, cosines,
    sines, position, CAPACITY: tl.constexpr, COLUMNS: tl.constexpr, HALF: tl.constexpr, KEY_ROWS: tl.constexpr,
    QUERY_ROWS: tl.constexpr, ROUTER_ROWS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    """What every token needs of the normalised hidden state [D]: its key and value, written to the cache, and either
    its query (QUERY_ROWS) or, in a routed layer, the router's reduced features (ROUTER_ROWS).
    """
    program = tl.program_id(0)
    key_programs = tl.cdiv(KEY_ROWS, BLOCK)
    others = 2 * key_programs + tl.cdiv(QUERY_ROWS, BLOCK)
    place = tl.load(position)
    if program < key_programs:
        _key(
            hidden, norm, eps, key_weight, keys, cosines, sines, place, program, CAPACITY, HALF, KEY_ROWS, COLUMNS,
            BLOCK, STEP
        )
    elif program < 2 * key_programs:
        _value(
            hidden, norm, eps, value_weight, values, place, program - key_programs, CAPACITY, HALF, KEY_ROWS, COLUMNS,
            BLOCK, STEP
        )
    elif program < others:
        _query(
            hidden, norm, eps, query_weight, queries, cosines, sines, place, program - 2 * key_programs, HALF,
            QUERY_ROWS, COLUMNS, BLOCK, STEP
        )
    else:
        row = (program - others) * BLOCK + tl.arange(0, BLOCK)
        inside = row < ROUTER_ROWS
        found = _normed_rows(hidden, norm, eps, router_weight, row, inside, COLUMNS, BLOCK, STEP)
        tl.store(reduced + row, found, mask=inside)


@triton.jit
def decide_and_query(
    hidden, norm, eps, weight, queries, reduced, router_norm, router_out, threshold, tape, gate, executed, flag,
    cosines, sines, position, ROUTED: tl.constexpr, WIDTH: tl.constexpr, WIDTH_STEP: tl.constexpr,
    TANH_FIRST: tl.constexpr, COLUMNS: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    STEP: tl.constexpr
):
    """The gate of this layer, and the query if the layer runs. tape: [positions, ROUTED], from this layer's column on;
    1 runs, 0 skips, -1 leaves it to the gate. Every program decides for itself: cheaper than a kernel of its own.
    """
    place = tl.load(position)
    at = tl.arange(0, WIDTH_STEP)
    inside = at < WIDTH
    features = tl.load(reduced + at, mask=inside, other=0.0)
    scale = tl.load(router_norm + at, mask=inside, other=0.0)
    if TANH_FIRST:
        features = _tanh(features)
        features = features * tl.rsqrt(tl.sum(features * features, 0) / WIDTH + eps) * scale
    else:
        features = _tanh(features * tl.rsqrt(tl.sum(features * features, 0) / WIDTH + eps) * scale)
    share = 1 / (1 + tl.exp(-tl.sum(features * tl.load(router_out + at, mask=inside, other=0.0), 0)))
    forced = tl.load(tape + place.to(tl.int64) * ROUTED).to(tl.int32)
    run = tl.where(forced < 0, (share > tl.load(threshold)).to(tl.int32), forced)
    program = tl.program_id(0)
    if program == 0:
        tl.store(gate, share)
        tl.store(executed, run.to(tl.float32))
        tl.store(flag, run)
    if run == 0:
        return
    _query(hidden, norm, eps, weight, queries, cosines, sines, place, program, HALF, ROWS, COLUMNS, BLOCK, STEP)


@triton.jit
def attend(
    queries, keys, values, sums, weights, peaks, position, flag, scale, CAPACITY: tl.constexpr, GROUP: tl.constexpr,
    GROUP_STEP: tl.constexpr, WIDTH: tl.constexpr, WIDTH_STEP: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr
):
    """Attention of the query heads that share one key head (program 0) over one stretch of the positions (program 1):
    sums [H, SPLITS, WIDTH] of values, their weights [H, SPLITS], and the highest score [H, SPLITS] that both are
    relative to.
    """
    if tl.load(flag) == 0:
        return
    head = tl.program_id(0)
    split = tl.program_id(1)
    length = tl.load(position) + 1
    stretch = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK) * BLOCK
    begin = split * stretch
    end = tl.minimum(begin + stretch, length)
    member = tl.arange(0, GROUP_STEP)
    column = tl.arange(0, WIDTH_STEP)
    belongs = member < GROUP
    inside = column < WIDTH
    rows = head * GROUP + member
    both = belongs[:, None] & inside[None, :]
    query = tl.load(queries + rows[:, None] * WIDTH + column[None, :], mask=both, other=0.0) * scale
    peak = tl.full((GROUP_STEP,), float("-inf"), tl.float32)
    total = tl.zeros((GROUP_STEP,), tl.float32)
    found = tl.zeros((GROUP_STEP, WIDTH_STEP), tl.float32)
    cache = head.to(tl.int64) * CAPACITY * WIDTH
    for start in range(begin, end, BLOCK):
        place = start + tl.arange(0, BLOCK)
        known = place < end
        where = cache + place[:, None].to(tl.int64) * WIDTH + column[None, :]
        mask = known[:, None] & inside[None, :]
        key = tl.load(keys + where, mask=mask, other=0.0).to(tl.float32)
        value = tl.load(values + where, mask=mask, other=0.0).to(tl.float32)
        scores = tl.sum(query[:, None, :] * key[None, :, :], 2)  # [GROUP, BLOCK]
        scores = tl.where(known[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        shares = tl.exp(scores - higher[:, None])
        keep = tl.exp(peak - higher)
        total = total * keep + tl.sum(shares, 1)
        found = found * keep[:, None] + tl.sum(shares[:, :, None] * value[None, :, :], 1)
        peak = higher
    out = rows * SPLITS + split
    tl.store(sums + out[:, None] * WIDTH + column[None, :], found, mask=both)
    tl.store(weights + out, total, mask=belongs)
    tl.store(peaks + out, peak, mask=belongs)


@triton.jit
def merge(
    sums, weights, peaks, attended, flag, WIDTH: tl.constexpr, WIDTH_STEP: tl.constexpr, SPLITS: tl.constexpr
):
    """The stretches of one query head together: attended [H * WIDTH]. SPLITS is a power of two."""
    if tl.load(flag) == 0:
        return
    head = tl.program_id(0)
    split = head * SPLITS + tl.arange(0, SPLITS)
    column = tl.arange(0, WIDTH_STEP)
    inside = column < WIDTH
    peak = tl.load(peaks + split)
    keep = tl.exp(peak - tl.max(peak, 0))  # 0 for a stretch without positions
    total = tl.sum(tl.load(weights + split) * keep, 0)
    found = tl.load(sums + split[:, None] * WIDTH + column[None, :], mask=inside[None, :], other=0.0)
    tl.store(attended + head * WIDTH + column, tl.sum(found * keep[:, None], 0) / total, mask=inside)


@triton.jit
def add_attention(
    attended, weight, hidden, flag, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    """hidden [D] += weight @ attended, if the layer runs."""
    if tl.load(flag) == 0:
        return
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < ROWS
    found = _rows(attended, weight, row, inside, COLUMNS, BLOCK, STEP)
    tl.store(hidden + row, tl.load(hidden + row, mask=inside, other=0.0) + found, mask=inside)


@triton.jit
def widen(
    hidden, norm, eps, gate_weight, up_weight, adapter_gate_weight, adapter_up_weight, wide, flag, ROWS: tl.constexpr,
    ADAPTER_ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    """wide = silu(gate x) * (up x) of the FFN [ROWS] if the layer runs, else of the adapter [ADAPTER_ROWS]."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if tl.load(flag) != 0:
        _widened(hidden, norm, eps, gate_weight, up_weight, wide, row, ROWS, COLUMNS, BLOCK, STEP)
    elif tl.program_id(0) * BLOCK < ADAPTER_ROWS:
        _widened(
            hidden, norm, eps, adapter_gate_weight, adapter_up_weight, wide, row, ADAPTER_ROWS, COLUMNS, BLOCK, STEP
        )


@triton.jit
def narrow(
    wide, weight, adapter_weight, hidden, flag, gate, scaled, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    ADAPTER_COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    """hidden [D] += what the FFN or the adapter makes of `wide`; times the gate, or 1 - gate, if `scaled`."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < ROWS
    before = tl.load(hidden + row, mask=inside, other=0.0)
    share = tl.load(gate)
    by_gate = tl.load(scaled) != 0
    if tl.load(flag) != 0:
        found = _rows(wide, weight, row, inside, COLUMNS, BLOCK, STEP)
        tl.store(hidden + row, before + found * tl.where(by_gate, share, 1.0), mask=inside)
    else:
        found = _rows(wide, adapter_weight, row, inside, ADAPTER_COLUMNS, BLOCK, STEP)
        tl.store(hidden + row, before + found * tl.where(by_gate, 1 - share, 1.0), mask=inside)


@triton.jit
def predict(
    hidden, norm, eps, weight, logits, best, best_row, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    STEP: tl.constexpr
):
    """logits [V], and the highest of every program's with its row."""
    program = tl.program_id(0)
    row = program * BLOCK + tl.arange(0, BLOCK)
    inside = row < ROWS
    found = _normed_rows(hidden, norm, eps, weight, row, inside, COLUMNS, BLOCK, STEP)
    tl.store(logits + row, found, mask=inside)
    found = tl.where(inside, found, float("-inf"))
    tl.store(best + program, tl.max(found, 0))
    tl.store(best_row + program, program * BLOCK + tl.argmax(found, 0))


@triton.jit
def advance(best, best_row, token, position, guess, COUNT: tl.constexpr, STEP: tl.constexpr):
    """The likeliest token becomes the next one to read, one position further; told to the host in `guess`."""
    at = tl.arange(0, STEP)
    inside = at < COUNT
    found = tl.argmax(tl.load(best + at, mask=inside, other=float("-inf")), 0)
    chosen = tl.load(best_row + found)
    tl.store(token, chosen)
    tl.store(guess, chosen.to(tl.float32))
    tl.store(position, tl.load(position) + 1)


@triton.jit
def _normed_rows(x, norm, eps, weight, row, inside, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """[BLOCK]: these rows of weight times x in RMS norm, whose sum of squares is taken along the way."""
    total = tl.zeros((BLOCK, STEP), tl.float32)
    squares = tl.zeros((STEP,), tl.float32)
    for start in range(0, COLUMNS, STEP):
        at = start + tl.arange(0, STEP)
        known = at < COLUMNS
        value = tl.load(x + at, mask=known, other=0.0)
        squares += value * value
        value *= tl.load(norm + at, mask=known, other=0.0).to(tl.float32)
        total += _tile(weight, row, inside, at, known, COLUMNS) * value[None, :]
    return tl.sum(total, 1) * tl.rsqrt(tl.sum(squares, 0) / COLUMNS + eps)


@triton.jit
def _rows(x, weight, row, inside, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """[BLOCK]: these rows of weight times x."""
    total = tl.zeros((BLOCK, STEP), tl.float32)
    for start in range(0, COLUMNS, STEP):
        at = start + tl.arange(0, STEP)
        known = at < COLUMNS
        total += _tile(weight, row, inside, at, known, COLUMNS) * tl.load(x + at, mask=known, other=0.0)[None, :]
    return tl.sum(total, 1)


@triton.jit
def _tile(weight, row, inside, at, known, COLUMNS: tl.constexpr):
    """[BLOCK, STEP] of a weight, which is read once a token: no cache needs to keep it."""
    where = row[:, None].to(tl.int64) * COLUMNS + at[None, :]
    mask = inside[:, None] & known[None, :]
    return tl.load(weight + where, mask=mask, other=0.0, eviction_policy="evict_first").to(tl.float32)


@triton.jit
def _rotated(
    hidden, norm, eps, weight, cosines, sines, place, program, HALF: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    """BLOCK / 2 pairs of rows, a half head apart, with the rotary embedding. Returns the rows of the pairs' first and
    second members [BLOCK / 2], then their values; a row beyond the end is given as ROWS or more.
    """
    pair = program * (BLOCK // 2) + tl.arange(0, BLOCK) // 2
    column = pair % HALF
    row = pair // HALF * (2 * HALF) + column + tl.arange(0, BLOCK) % 2 * HALF
    found = _normed_rows(hidden, norm, eps, weight, row, row < ROWS, COLUMNS, BLOCK, STEP)
    low, high = tl.split(tl.reshape(found, (BLOCK // 2, 2)))
    first, second = tl.split(tl.reshape(row, (BLOCK // 2, 2)))
    angle = place.to(tl.int64) * HALF + first % (2 * HALF)
    cosine = tl.load(cosines + angle)
    sine = tl.load(sines + angle)
    return first, second, low * cosine - high * sine, high * cosine + low * sine


@triton.jit
def _query(
    hidden, norm, eps, weight, queries, cosines, sines, place, program, HALF: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    low, high, first, second = _rotated(
        hidden, norm, eps, weight, cosines, sines, place, program, HALF, ROWS, COLUMNS, BLOCK, STEP
    )
    tl.store(queries + low, first, mask=low < ROWS)
    tl.store(queries + high, second, mask=high < ROWS)


@triton.jit
def _key(
    hidden, norm, eps, weight, keys, cosines, sines, place, program, CAPACITY: tl.constexpr, HALF: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    low, high, first, second = _rotated(
        hidden, norm, eps, weight, cosines, sines, place, program, HALF, ROWS, COLUMNS, BLOCK, STEP
    )
    _remember(keys, low, place, first, low < ROWS, CAPACITY, HALF)
    _remember(keys, high, place, second, high < ROWS, CAPACITY, HALF)


@triton.jit
def _value(
    hidden, norm, eps, weight, values, place, program, CAPACITY: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):
    row = program * BLOCK + tl.arange(0, BLOCK)
    found = _normed_rows(hidden, norm, eps, weight, row, row < ROWS, COLUMNS, BLOCK, STEP)
    _remember(values, row, place, found, row < ROWS, CAPACITY, HALF)


@triton.jit
def _remember(cache, row, place, value, inside, CAPACITY: tl.constexpr, HALF: tl.constexpr):
    """Into [key heads, CAPACITY, 2 * HALF] at this token's place."""
    head = (row // (2 * HALF)).to(tl.int64)
    where = (head * CAPACITY + place) * (2 * HALF) + row % (2 * HALF)
    tl.store(cache + where, value.to(cache.dtype.element_ty), mask=inside)


@triton.jit
def _widened(
    hidden, norm, eps, gate_weight, up_weight, wide, row, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr, STEP: tl.constexpr
):
    inside = row < ROWS
    gate = _normed_rows(hidden, norm, eps, gate_weight, row, inside, COLUMNS, BLOCK, STEP)
    up = _normed_rows(hidden, norm, eps, up_weight, row, inside, COLUMNS, BLOCK, STEP)
    tl.store(wide + row, gate / (1 + tl.exp(-gate)) * up, mask=inside)


@triton.jit
def _tanh(x):
    return 2 / (1 + tl.exp(-2 * x)) - 1
