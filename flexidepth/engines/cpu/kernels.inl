// The loops that read weights: rows against vectors, and attention over a cache. step.cpp includes this file once for
// each instruction set, in a namespace of its own. Knows no layers, no threads and no routes.
//
// Every sum runs over the lanes of two chains and adds them in one fixed order, however many rows and vectors are
// computed side by side: a token's numbers do not depend on the tokens beside it.

#if LEVEL == 2
constexpr int LANES = 16, TOGETHER = 4;  // TOGETHER: vectors that share one reading of two rows, as registers allow
#elif LEVEL == 1
constexpr int LANES = 8, TOGETHER = 2;
#else
constexpr int LANES = 4, TOGETHER = 2;
#endif
constexpr int CHAINS = 2;
constexpr int64_t AHEAD = 3072;  // bytes; the processor alone fetches too little where weights are narrow

typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef float LooseLanes __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t IntLanes __attribute__((vector_size(LANES * 4)));
typedef uint32_t BitLanes __attribute__((vector_size(LANES * 4)));
typedef uint16_t HalfLanes __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef int8_t ByteLanes __attribute__((vector_size(LANES), aligned(1), may_alias));

inline Lanes load(const float* at) { return *reinterpret_cast<const LooseLanes*>(at); }
#if LEVEL == 2
inline Lanes load(const uint16_t* at) {
  __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  return (Lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}
inline Lanes load(const int8_t* at) {
  __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return (Lanes)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
#elif LEVEL == 1
inline Lanes load(const uint16_t* at) {
  __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return (Lanes)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
}
inline Lanes load(const int8_t* at) {
  __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
  return (Lanes)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
#else
inline Lanes load(const uint16_t* at) {
  return (Lanes)(__builtin_convertvector(*reinterpret_cast<const HalfLanes*>(at), BitLanes) << 16);
}
inline Lanes load(const int8_t* at) {
  return __builtin_convertvector(__builtin_convertvector(*reinterpret_cast<const ByteLanes*>(at), IntLanes), Lanes);
}
#endif
// a * b + c, rounded once where the processor can. Written out, as a compiler free to choose would choose differently
// in copies of one loop, and their last bits would differ.
inline Lanes madd(Lanes a, Lanes b, Lanes c) {
#if LEVEL == 2
  return (Lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif LEVEL == 1
  return (Lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
// Keeps a value in its register: a compiler would rather read it from memory again for every use.
inline void once(Lanes& value) {
#if LEVEL == 2
  asm("" : "+v"(value));
#elif LEVEL == 1
  asm("" : "+x"(value));
#endif
}
inline void store(float* at, Lanes value) { *reinterpret_cast<LooseLanes*>(at) = value; }
inline Lanes all(float value) { return Lanes{} + value; }

inline float number(float weight) { return weight; }
inline float number(uint16_t weight) {
  uint32_t bits = uint32_t(weight) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline float number(int8_t weight) { return weight; }

// Halves are folded onto each other until one lane is left.
inline float sum(Lanes lanes) {
#if LEVEL == 2
  __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)lanes), _mm512_extractf32x8_ps((__m512)lanes, 1));
#elif LEVEL == 1
  __m256 eight = (__m256)lanes;
#endif
#if LEVEL > 0
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
#endif
}

// Room for the sums of so many.
constexpr int whole(int count) { return (count + LANES - 1) / LANES * LANES; }

// out[i] = sum(lanes[i]), to the last bit. out: see `whole`.
template <int N>
inline void sums(const Lanes* lanes, float* out) {
  int done = 0;
#if LEVEL == 2
  // Sixteen at once: two vectors' halves are folded in one addition, and so on; the order undoes what that shuffles.
  constexpr int place[16] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
#pragma GCC unroll 4
  for (; N - done > 4; done += 16) {
    __m512 a[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[place[i]] = done + i < N ? (__m512)lanes[done + i] : _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
      a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 8], 0x44), _mm512_shuffle_f32x4(a[i], a[i + 8], 0xEE));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
      a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xDD));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
      a[i] = _mm512_add_ps(_mm512_shuffle_ps(a[i], a[i + 2], 0x44), _mm512_shuffle_ps(a[i], a[i + 2], 0xEE));
    const __m512 found = _mm512_add_ps(_mm512_shuffle_ps(a[0], a[1], 0x88), _mm512_shuffle_ps(a[0], a[1], 0xDD));
    _mm512_storeu_ps(out + done, found);  // whole, as what a masked store wrote is slow to read
  }
#endif
  for (; done < N; done++) out[done] = sum(lanes[done]);
}

// R rows, `stride` apart, against N vectors: out[n * R + r], with room for whole(N * R). FETCH: ask for what comes next in memory.
template <int R, int N, bool FETCH, typename Weight>
inline void dots(const Weight* rows, int64_t stride, const float* const* x, int64_t size, float* out) {
  Lanes chain[CHAINS][N * R] = {};
  int64_t i = 0;
  for (; i + CHAINS * LANES <= size; i += CHAINS * LANES) {
    if (FETCH)
      for (int r = 0; r < R; r++)
        __builtin_prefetch(reinterpret_cast<const char*>(rows + r * stride + i) + AHEAD);
#pragma GCC unroll 2
    for (int c = 0; c < CHAINS; c++) {
      Lanes weights[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) weights[r] = load(rows + r * stride + i + c * LANES);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) {
        Lanes value = load(x[n] + i + c * LANES);
        if (R > 1) once(value);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) chain[c][n * R + r] = madd(weights[r], value, chain[c][n * R + r]);
      }
    }
  }
  if (i + LANES <= size) {
#pragma GCC unroll 4
    for (int n = 0; n < N; n++)
#pragma GCC unroll 4
      for (int r = 0; r < R; r++)
        chain[0][n * R + r] = madd(load(rows + r * stride + i), load(x[n] + i), chain[0][n * R + r]);
    i += LANES;
  }
#pragma GCC unroll 16
  for (int o = 0; o < N * R; o++) chain[0][o] += chain[1][o];
  sums<N * R>(chain[0], out);
  if (i < size)
    for (int n = 0; n < N; n++)
      for (int r = 0; r < R; r++) {
        float rest = 0;
        for (int64_t j = i; j < size; j++) rest += number(rows[r * stride + j]) * x[n][j];
        out[n * R + r] += rest;
      }
}

// What a multiplication does with its dot products.
struct Target {
  const Matrix& m;
  float* const* y;
  const float* factor;
  bool add;

  void put(int64_t t, int64_t row, float dot) const {
    float value = dot * (m.scale ? m.scale[row] : 1.0f) + (m.bias ? m.bias[row] : 0.0f);
    if (factor) value *= factor[t];
    y[t][row] = add ? y[t][row] + value : value;
  }
};

template <int R, int N>
inline void block_of(const Target& target, const float* rows, int64_t row, const float* const* x, int64_t t) {
  float found[whole(R * N)];
  dots<R, N, false>(rows, target.m.columns, x + t, target.m.columns, found);
#pragma GCC unroll 4
  for (int n = 0; n < N; n++)
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) target.put(t + n, row + r, found[n * R + r]);
}

inline const float* widened(const float* rows, int64_t, float*) { return rows; }
template <typename Weight>
inline const float* widened(const Weight* rows, int64_t size, float* room) {
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) {
    __builtin_prefetch(reinterpret_cast<const char*>(rows + i) + AHEAD);
    store(room + i, load(rows + i));
  }
  for (; i < size; i++) room[i] = number(rows[i]);
  return room;
}

// One vector streams over the rows as they lie in memory. Several take TILE rows at a time, made float32 once for all
// of them; those and the vectors of the moment stay in the nearest caches.
template <typename Weight>
void rows_of(const Target& target, int64_t first, int64_t last, const float* const* x, int64_t count, float* room) {
  const int64_t columns = target.m.columns;
  const Weight* weights = static_cast<const Weight*>(target.m.data);
  if (count == 1) {
    for (int64_t row = first; row < last; row++) {
      float found[whole(1)];
      dots<1, 1, true>(weights + row * columns, columns, x, columns, found);
      target.put(0, row, found[0]);
    }
    return;
  }
  for (int64_t from = first; from < last; from += TILE) {
    const int64_t rows = from + TILE < last ? TILE : last - from, even = rows / 2 * 2;
    const float* tile = widened(weights + from * columns, rows * columns, room);
    int64_t t = 0;
    for (; t + TOGETHER <= count; t += TOGETHER) {
      for (int64_t r = 0; r < even; r += 2) block_of<2, TOGETHER>(target, tile + r * columns, from + r, x, t);
      if (even < rows) block_of<1, TOGETHER>(target, tile + even * columns, from + even, x, t);
    }
    for (; t < count; t++)
      for (int64_t r = 0; r < rows; r++) block_of<1, 1>(target, tile + r * columns, from + r, x, t);
  }
}

// y[t][row] (+)= factor[t] * (m @ x[t] + bias)[row] for rows first .. last - 1 and `count` vectors. room: for TILE rows.
void multiply(const Matrix& m, int64_t first, int64_t last, const float* const* x, float* const* y, int64_t count,
              const float* factor, bool add, float* room) {
  const Target target{m, y, factor, add};
  if (m.kind == FLOAT32) rows_of<float>(target, first, last, x, count, room);
  else if (m.kind == BFLOAT16) rows_of<uint16_t>(target, first, last, x, count, room);
  else rows_of<int8_t>(target, first, last, x, count, room);
}

// exp to two units in the last place: 2^n times a polynomial on [-ln2/2, ln2/2].
inline Lanes exponential(Lanes x) {
  const Lanes low = all(-87.0f), high = all(88.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  Lanes scaled = x * 1.44269504088896341f;
  IntLanes n = __builtin_convertvector(scaled + (scaled < all(0.0f) ? all(-0.5f) : all(0.5f)), IntLanes);
  Lanes whole = __builtin_convertvector(n, Lanes);
  Lanes r = madd(whole, all(-0.693359375f), x);  // ln 2 in two parts
  r = madd(whole, all(2.12194440e-4f), r);
  Lanes p = all(1.9875691500e-4f);
  for (float next : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = madd(p, r, all(next));
  p = madd(p, r * r, r + 1.0f);
  return p * (Lanes)((n + 127) << 23);
}

// gate[i] = silu(gate[i]) * up[i]
void swiglu(float* gate, const float* up, int64_t size) {
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) {
    Lanes g = load(gate + i);
    store(gate + i, g / (1.0f + exponential(-g)) * load(up + i));
  }
  for (; i < size; i++) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void rms_norm(const float* x, const float* weight, float* y, int64_t size, float eps) {
  Lanes squares = {};
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) squares += load(x + i) * load(x + i);
  float total = sum(squares);
  for (; i < size; i++) total += x[i] * x[i];
  const float inverse = 1.0f / std::sqrt(total / float(size) + eps);
  for (int64_t j = 0; j < size; j++) y[j] = weight[j] * (x[j] * inverse);
}

// scores[p] = exp(scale * scores[p] - the highest of these); returns their sum. scores: room for whole lanes.
inline float soften(float* scores, int64_t positions, float scale) {
  const int64_t padded = (positions + LANES - 1) / LANES * LANES;
  for (int64_t p = positions; p < padded; p++) scores[p] = -INFINITY;
  Lanes most = all(-INFINITY);
  for (int64_t p = 0; p < padded; p += LANES) {
    const Lanes value = load(scores + p) * scale;
    most = value > most ? value : most;
    store(scores + p, value);
  }
  float highest = most[0];
  for (int lane = 1; lane < LANES; lane++) highest = most[lane] > highest ? most[lane] : highest;
  Lanes totals = {};
  for (int64_t p = 0; p < padded; p += LANES) {
    Lanes weight = exponential(load(scores + p) - highest);
    if (p + LANES > positions)
      for (int64_t i = positions - p; i < LANES; i++) weight[i] = 0;
    store(scores + p, weight);
    totals += weight;
  }
  return sum(totals);
}

// W vectors of lanes, from column i on, of N weighted sums of values.
template <int N, int W, typename Cached>
inline void mix(const float* scores, int64_t room, const Cached* values, int64_t positions, int64_t size,
                const float* inverse, int64_t i, float* const* out) {
  Lanes mixed[2][N][W] = {};  // two chains: even and odd positions
  int64_t p = 0;
  for (; p + 2 <= positions; p += 2)
#pragma GCC unroll 2
    for (int c = 0; c < 2; c++) {
      Lanes value[W];
#pragma GCC unroll 2
      for (int w = 0; w < W; w++) value[w] = load(values + (p + c) * size + i + w * LANES);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) {
        const Lanes weight = all(scores[n * room + p + c]);
#pragma GCC unroll 2
        for (int w = 0; w < W; w++) mixed[c][n][w] = madd(weight, value[w], mixed[c][n][w]);
      }
    }
#pragma GCC unroll 4
  for (int n = 0; n < N; n++)
#pragma GCC unroll 2
    for (int w = 0; w < W; w++) {
      Lanes& even = mixed[0][n][w];
      if (p < positions) even = madd(all(scores[n * room + p]), load(values + p * size + i + w * LANES), even);
      store(out[n] + i + w * LANES, (even + mixed[1][n][w]) * inverse[n]);
    }
}

// N query heads that share keys and values [positions, size]. scores: room for N times `room`, which is at least
// `positions` rounded up to whole lanes.
template <int N, typename Cached>
inline void attend_some(const float* const* queries, const void* all_keys, const void* all_values, int64_t positions,
                        int64_t size, float scale, float* scores, int64_t room, float* const* out) {
  const Cached *keys = static_cast<const Cached*>(all_keys), *values = static_cast<const Cached*>(all_values);
  constexpr int R = N < 4 ? 4 : 2;  // keys at a time, as registers allow
  float found[whole(N * R)];
  int64_t p = 0;
  for (; p + R <= positions; p += R) {
    dots<R, N, true>(keys + p * size, size, queries, size, found);
    for (int n = 0; n < N; n++) std::memcpy(scores + n * room + p, found + n * R, R * sizeof(float));
  }
  for (; p < positions; p++) {
    dots<1, N, true>(keys + p * size, size, queries, size, found);
    for (int n = 0; n < N; n++) scores[n * room + p] = found[n];
  }
  float inverse[N];
  for (int n = 0; n < N; n++) inverse[n] = 1.0f / soften(scores + n * room, positions, scale);
  int64_t i = 0;
  for (; i + 2 * LANES <= size; i += 2 * LANES) mix<N, 2>(scores, room, values, positions, size, inverse, i, out);
  for (; i + LANES <= size; i += LANES) mix<N, 1>(scores, room, values, positions, size, inverse, i, out);
  for (; i < size; i++)
    for (int n = 0; n < N; n++) {
      float mixed = 0;
      for (int64_t p = 0; p < positions; p++) mixed += scores[n * room + p] * number(values[p * size + i]);
      out[n][i] = mixed * inverse[n];
    }
}

// The same for one to four heads, with a cache in bfloat16 or float32.
void attend(const float* const* queries, int64_t count, const void* keys, const void* values, bool half,
            int64_t positions, int64_t size, float scale, float* scores, int64_t room, float* const* out) {
  constexpr decltype(&attend_some<1, float>) by_count[2][4] = {
      {attend_some<1, float>, attend_some<2, float>, attend_some<3, float>, attend_some<4, float>},
      {attend_some<1, uint16_t>, attend_some<2, uint16_t>, attend_some<3, uint16_t>, attend_some<4, uint16_t>}};
  by_count[half][count - 1](queries, keys, values, positions, size, scale, scores, room, out);
}

const Kernels table = {multiply, swiglu, rms_norm, attend};
