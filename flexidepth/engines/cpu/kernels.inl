// The loops that read weights: rows against vectors, and attention over a cache. step.cpp includes this file once for
// each instruction set, in a namespace of its own. Knows no layers, no threads and no routes.
//
// Every sum runs over the lanes of four chains and adds them in one fixed order, however many vectors share a row: a
// token's numbers do not depend on the tokens computed beside it.

#if LEVEL == 2
constexpr int LANES = 16, TOGETHER = 4;  // TOGETHER: vectors that share one reading of a row, as registers allow
#elif LEVEL == 1
constexpr int LANES = 8, TOGETHER = 2;
#else
constexpr int LANES = 4, TOGETHER = 2;
#endif
constexpr int CHAINS = 4;
constexpr int64_t TILE = 16;  // rows
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

// One row against N vectors of the same length.
template <int N, typename Weight>
inline void dot(const Weight* row, const float* const* x, int64_t size, float* out) {
  Lanes chain[N][CHAINS] = {};
  int64_t i = 0;
  for (; i + CHAINS * LANES <= size; i += CHAINS * LANES) {
    for (size_t line = 0; line < CHAINS * LANES * sizeof(Weight); line += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(row + i) + AHEAD + line);
#pragma GCC unroll 4
    for (int c = 0; c < CHAINS; c++) {
      Lanes weights = load(row + i + c * LANES);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) chain[n][c] = madd(weights, load(x[n] + i + c * LANES), chain[n][c]);
    }
  }
  for (; i + LANES <= size; i += LANES) {
    Lanes weights = load(row + i);
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) chain[n][0] = madd(weights, load(x[n] + i), chain[n][0]);
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; n++) {
    float rest = 0;
    for (int64_t j = i; j < size; j++) rest += number(row[j]) * x[n][j];
    out[n] = sum((chain[n][0] + chain[n][1]) + (chain[n][2] + chain[n][3])) + rest;
  }
}

// One row against the N vectors from t on.
template <int N, typename Weight>
inline void row_of(const Matrix& m, int64_t row, const float* const* x, float* const* y, int64_t t,
                   const float* factor, bool add) {
  float dots[N];
  dot<N>(static_cast<const Weight*>(m.data) + row * m.columns, x + t, m.columns, dots);
  for (int n = 0; n < N; n++) {
    float value = dots[n] * (m.scale ? m.scale[row] : 1.0f) + (m.bias ? m.bias[row] : 0.0f);
    if (factor) value *= factor[t + n];
    y[t + n][row] = add ? y[t + n][row] + value : value;
  }
}

// A few rows at a time for all vectors: the rows and the vectors of the moment stay in the nearest caches.
template <typename Weight>
void rows_of(const Matrix& m, int64_t first, int64_t last, const float* const* x, float* const* y, int64_t count,
             const float* factor, bool add) {
  for (int64_t from = first; from < last; from += TILE) {
    const int64_t to = from + TILE < last ? from + TILE : last;
    int64_t t = 0;
    for (; t + TOGETHER <= count; t += TOGETHER)
      for (int64_t row = from; row < to; row++) row_of<TOGETHER, Weight>(m, row, x, y, t, factor, add);
    for (; t < count; t++)
      for (int64_t row = from; row < to; row++) row_of<1, Weight>(m, row, x, y, t, factor, add);
  }
}

// y[t][row] (+)= factor[t] * (m @ x[t] + bias)[row] for rows first .. last - 1 and `count` vectors.
void multiply(const Matrix& m, int64_t first, int64_t last, const float* const* x, float* const* y, int64_t count,
              const float* factor, bool add) {
  if (m.kind == FLOAT32) rows_of<float>(m, first, last, x, y, count, factor, add);
  else if (m.kind == BFLOAT16) rows_of<uint16_t>(m, first, last, x, y, count, factor, add);
  else rows_of<int8_t>(m, first, last, x, y, count, factor, add);
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

// N query heads that share keys and values [positions, size]. scores: room for N times `room`, which is at least
// `positions` rounded up to whole lanes.
template <int N>
inline void attend_some(const float* const* queries, const float* keys, const float* values, int64_t positions,
                        int64_t size, float scale, float* scores, int64_t room, float* const* out) {
  float most[N], inverse[N];
  for (int n = 0; n < N; n++) most[n] = -INFINITY;
  for (int64_t p = 0; p < positions; p++) {
    float dots[N];
    dot<N>(keys + p * size, queries, size, dots);
    for (int n = 0; n < N; n++) {
      const float score = dots[n] * scale;
      scores[n * room + p] = score;
      most[n] = score > most[n] ? score : most[n];
    }
  }
  for (int n = 0; n < N; n++) {
    float* own = scores + n * room;
    const int64_t padded = (positions + LANES - 1) / LANES * LANES;
    for (int64_t p = positions; p < padded; p++) own[p] = -INFINITY;
    Lanes totals = {};
    for (int64_t p = 0; p < padded; p += LANES) {
      Lanes weight = exponential(load(own + p) - most[n]);
      if (p + LANES > positions)
        for (int64_t i = positions - p; i < LANES; i++) weight[i] = 0;
      store(own + p, weight);
      totals += weight;
    }
    inverse[n] = 1.0f / sum(totals);
  }
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) {
    Lanes mixed[N][2] = {};
    int64_t p = 0;
    for (; p + 2 <= positions; p += 2) {
      const Lanes first = load(values + p * size + i), second = load(values + (p + 1) * size + i);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) {
        mixed[n][0] = madd(all(scores[n * room + p]), first, mixed[n][0]);
        mixed[n][1] = madd(all(scores[n * room + p + 1]), second, mixed[n][1]);
      }
    }
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) {
      if (p < positions) mixed[n][0] = madd(all(scores[n * room + p]), load(values + p * size + i), mixed[n][0]);
      store(out[n] + i, (mixed[n][0] + mixed[n][1]) * inverse[n]);
    }
  }
  for (; i < size; i++)
    for (int n = 0; n < N; n++) {
      float mixed = 0;
      for (int64_t p = 0; p < positions; p++) mixed += scores[n * room + p] * values[p * size + i];
      out[n][i] = mixed * inverse[n];
    }
}

// The same for one to four heads.
void attend(const float* const* queries, int64_t count, const float* keys, const float* values, int64_t positions,
            int64_t size, float scale, float* scores, int64_t room, float* const* out) {
  constexpr decltype(&attend_some<1>) by_count[] = {attend_some<1>, attend_some<2>, attend_some<3>, attend_some<4>};
  by_count[count - 1](queries, keys, values, positions, size, scale, scores, room, out);
}

const Kernels table = {multiply, swiglu, rms_norm, attend};
