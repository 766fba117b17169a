// One pass of a FlexiDepth model over a few tokens of one sequence: what reference.py computes, read once from memory.
//
// A pass is one parallel region: every thread walks the same phases and meets the others at a barrier after each. A
// skipped layer is an `if` around its weights. Knows no text, no sampling and no files; the caller owns all weights.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// --- what the caller passes; kept in step with binding.py ----------------------------------------------------------

enum Kind : int64_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

struct Matrix {  // [rows, columns]; null data where a model has no such matrix
  const void* data;
  const float* scale;  // [rows], for INT8
  const float* bias;   // [rows] or null
  int64_t rows, columns, kind;
};

struct Layer {
  const float *input_norm, *post_norm;
  Matrix q, k, v, o, gate, up, down;
  int64_t place;  // among the routed layers, or -1
  Matrix router_in;
  const float *router_norm, *router_out;
  Matrix adapter_gate, adapter_up, adapter_down;
};

struct Shape {
  int64_t layers, routed, hidden, heads, kv_heads, head_dim, ffn, vocab, router_width, adapter_width, positions;
  int64_t tanh_first, scaled;
  int64_t half_cache;  // keys and values in bfloat16
  float eps, rope_scale;
};

struct Routes {
  const uint8_t* forced;  // [tokens, routed], or null to let the gates decide
  float threshold;
  int64_t unscaled;  // run rows take factor 1: the base model
  int64_t routers;   // 0: no router is computed either, and gates are 0
};

// --- kernels, once for each instruction set ------------------------------------------------------------------------

struct Kernels {
  void (*multiply)(const Matrix&, int64_t, int64_t, const float* const*, float* const*, int64_t, const float*, bool,
                   float*);
  void (*swiglu)(float*, const float*, int64_t);
  void (*rms_norm)(const float*, const float*, float*, int64_t, float);
  void (*attend)(const float* const*, int64_t, const void*, const void*, bool, int64_t, int64_t, float, float*,
                 int64_t, float* const*);
};

constexpr int64_t TILE = 16;  // rows that several vectors meet together

#define LEVEL 0
namespace plain {
#include "kernels.inl"
}
#undef LEVEL

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LEVEL 1
namespace avx2 {
#include "kernels.inl"
}
#undef LEVEL
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#define LEVEL 2
namespace avx512 {
#include "kernels.inl"
}
#undef LEVEL
#pragma GCC pop_options
#elif defined(__x86_64__) && defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define LEVEL 1
namespace avx2 {
#include "kernels.inl"
}
#undef LEVEL
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#define LEVEL 2
namespace avx512 {
#include "kernels.inl"
}
#undef LEVEL
#pragma clang attribute pop
#endif

namespace {

// Vectors that begin with a cache line: a load across two lines takes twice as long.
template <typename T>
struct Aligned {
  using value_type = T;
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* at, size_t) { ::operator delete(at, std::align_val_t(64)); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
using Buffer = std::vector<float, Aligned<float>>;

constexpr int64_t HEADS_TOGETHER = 4;  // that the attention kernel takes at most
constexpr int64_t BLOCK = 128;  // tokens of a prompt that share one reading of the weights

// To bfloat16, ties to even.
inline uint16_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// 0 plain, 1 AVX2, 2 AVX-512
int64_t best_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

const Kernels* kernels_of(int64_t level) {
#if defined(__x86_64__)
  if (level == 2) return &avx512::table;
  if (level == 1) return &avx2::table;
#endif
  return level == 0 ? &plain::table : nullptr;
}

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// --- threads: asleep between passes, awake within one --------------------------------------------------------------

class Team {
 public:
  explicit Team(int size) : size_(size) {
    for (int i = 1; i < size; i++) threads_.emplace_back([this, i] { work(i); });
  }

  ~Team() {
    {
      std::lock_guard<std::mutex> hold(lock_);
      closing_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  int size() const { return size_; }

  // Runs task(context, i) on every thread i, the caller's among them, and returns when all are done.
  void run(void (*task)(void*, int), void* context) {
    if (size_ > 1) {
      std::lock_guard<std::mutex> hold(lock_);
      task_ = task;
      context_ = context;
      round_++;
    }
    wake_.notify_all();
    task(context, 0);
    meet();
  }

  // Waits until every thread has come here. Spins, because the wait is a few microseconds; gives its core away when it
  // is not, as on a machine with more threads than cores.
  void meet() {
    if (size_ == 1) return;
    const int phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; spins++) {
      if (spins < 4000) relax();
      else std::this_thread::yield();
    }
  }

 private:
  void work(int number) {
    int64_t done = 0;
    for (;;) {
      void (*task)(void*, int);
      void* context;
      {
        std::unique_lock<std::mutex> hold(lock_);
        wake_.wait(hold, [&] { return closing_ || round_ != done; });
        if (closing_) return;
        done = round_;
        task = task_;
        context = context_;
      }
      task(context, number);
      meet();
    }
  }

  const int size_;
  std::vector<std::thread> threads_;
  std::mutex lock_;
  std::condition_variable wake_;
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  int64_t round_ = 0;
  bool closing_ = false;
  std::atomic<int> arrived_{0};
  std::atomic<int> phase_{0};
};

// --- a model, a sequence, a pass -----------------------------------------------------------------------------------

struct Model {
  Shape shape;
  std::vector<Layer> layers;
  Matrix embedding, head;
  const float *norm, *frequencies;  // frequencies: [head_dim / 2]
  const Kernels* kernels;
  std::mutex one_pass;  // sequences of several visitors take turns, pass by pass
  std::unique_ptr<Team> team;
  pid_t home;  // the process that the team's threads live in

  // A process that was forked has the memory and none of the threads: it leaves those handles alone and starts its own.
  void settle() {
    if (home == getpid()) return;
    const int size = team.release()->size();
    new (&one_pass) std::mutex;
    team = std::make_unique<Team>(size);
    home = getpid();
  }

  ~Model() {
    if (home != getpid()) team.release();
  }
};

struct Sequence {
  char *keys, *values;  // [layer, kv head, position, head_dim]; pages that were never written take no memory
  int64_t length;
  size_t bytes;  // of each
};

// A pass over at most BLOCK tokens. The caller's thread prepares it; every thread of the team walks through it.
class Pass {
 public:
  // rows: tokens of the largest block.
  Pass(Model& model, Sequence& sequence, const Routes& routes, int64_t rows)
      : model_(model),
        shape_(model.shape),
        kernels_(*model.kernels),
        sequence_(sequence),
        routes_(routes),
        rows_(rows) {
    const Shape& s = shape_;
    hidden_.resize(rows * s.hidden);
    queries_.resize(rows * s.heads * s.head_dim);
    attended_.resize(rows * s.heads * s.head_dim);
    keys_.resize(rows * s.kv_heads * s.head_dim);
    values_.resize(rows * s.kv_heads * s.head_dim);
    reduced_.resize(rows * s.router_width);
    inner_.resize(rows * inner_width());
    outer_.resize(rows * inner_width());
    cosines_.resize(rows * s.head_dim / 2);
    sines_.resize(rows * s.head_dim / 2);
    const int team = model.team->size();
    normed_.resize(team * rows * s.hidden);
    scores_.resize(team * HEADS_TOGETHER * room_for_scores());
    tiles_.resize(rows > 1 ? team * room_for_tile() : 0);
  }

  // logits: room for `kept` rows, the last ones of these tokens.
  void run(const int32_t* tokens, int64_t count, const uint8_t* forced, float* logits, int64_t kept, float* gates,
           uint8_t* executed) {
    tokens_ = tokens;
    count_ = count;
    forced_ = forced;
    logits_ = logits;
    kept_ = kept;
    gates_ = gates;
    executed_ = executed;
    start_ = sequence_.length;
    model_.team->run([](void* self, int thread) { static_cast<Pass*>(self)->walk(thread); }, this);
    sequence_.length += count;
  }

 private:
  int64_t room_for_scores() const { return (sequence_.length + rows_) / 64 * 64 + 64; }
  int64_t room_for_tile() const { return TILE * std::max({shape_.hidden, inner_width(), shape_.heads * shape_.head_dim}); }
  int64_t inner_width() const { return shape_.ffn > shape_.adapter_width ? shape_.ffn : shape_.adapter_width; }

  // Where this thread's share of `size` rows begins. On multiples of 16, so that no number depends on the team's size
  // (whole vectors and their rest are computed differently) and no two threads write to one cache line.
  static int64_t cut(int64_t size, int thread, int team) {
    const int64_t begin = (size + 15) / 16 * thread / team * 16;
    return begin < size ? begin : size;
  }

  void multiply(int thread, const Matrix& m, const float* const* x, float* const* y, int64_t count,
                const float* factor = nullptr, bool add = false) const {
    const int team = model_.team->size();
    kernels_.multiply(m, cut(m.rows, thread, team), cut(m.rows, thread + 1, team), x, y, count, factor, add,
                      const_cast<float*>(tiles_.data()) + thread * room_for_tile());
  }

  void meet() const { model_.team->meet(); }

  void walk(int thread) {
    const Shape& s = shape_;
    float* own = normed_.data() + thread * rows_ * s.hidden;
    if (thread == 0) begin();
    meet();
    for (const Layer& layer : model_.layers) walk_layer(thread, layer, own);
    if (kept_ == 0) return;
    const float* x[BLOCK];
    float* y[BLOCK];
    for (int64_t t = 0; t < kept_; t++) {
      const float* last = hidden_.data() + (count_ - kept_ + t) * s.hidden;
      kernels_.rms_norm(last, model_.norm, own + t * s.hidden, s.hidden, s.eps);
      x[t] = own + t * s.hidden;
      y[t] = logits_ + t * s.vocab;
    }
    multiply(thread, model_.head, x, y, kept_);
  }

  // Embeddings, and the angles of these positions.
  void begin() {
    const Shape& s = shape_;
    const Matrix& e = model_.embedding;
    for (int64_t t = 0; t < count_; t++) {
      float* row = hidden_.data() + t * s.hidden;
      const int64_t at = int64_t(tokens_[t]) * s.hidden;
      for (int64_t i = 0; i < s.hidden; i++) {
        if (e.kind == FLOAT32) row[i] = static_cast<const float*>(e.data)[at + i];
        else if (e.kind == BFLOAT16) row[i] = plain::number(static_cast<const uint16_t*>(e.data)[at + i]);
        else row[i] = static_cast<const int8_t*>(e.data)[at + i] * e.scale[tokens_[t]];
      }
      for (int64_t i = 0; i < s.head_dim / 2; i++) {
        const float angle = float(start_ + t) * model_.frequencies[i];
        cosines_[t * s.head_dim / 2 + i] = std::cos(angle) * s.rope_scale;
        sines_[t * s.head_dim / 2 + i] = std::sin(angle) * s.rope_scale;
      }
    }
  }

  void walk_layer(int thread, const Layer& layer, float* own) {
    const Shape& s = shape_;
    const int team = model_.team->size();
    const int64_t kv_width = s.kv_heads * s.head_dim, q_width = s.heads * s.head_dim;
    const float* x[BLOCK];
    float* y[BLOCK];
    for (int64_t t = 0; t < count_; t++) {
      kernels_.rms_norm(hidden_.data() + t * s.hidden, layer.input_norm, own + t * s.hidden, s.hidden, s.eps);
      x[t] = own + t * s.hidden;
    }
    auto into = [&](Buffer& buffer, int64_t width) {
      for (int64_t t = 0; t < count_; t++) y[t] = buffer.data() + t * width;
      return y;
    };

    // Every token owes later ones its key and value, and its router a decision.
    multiply(thread, layer.k, x, into(keys_, kv_width), count_);
    multiply(thread, layer.v, x, into(values_, kv_width), count_);
    const bool routed = layer.place >= 0;
    if (routed && routes_.routers) multiply(thread, layer.router_in, x, into(reduced_, s.router_width), count_);
    meet();

    int64_t ran[BLOCK], skipped[BLOCK], runs = 0, skips = 0;
    float gate[BLOCK];
    for (int64_t t = 0; t < count_; t++) {
      gate[t] = routed && routes_.routers ? gate_of(layer, reduced_.data() + t * s.router_width) : 0.0f;
      const int64_t at = t * s.routed + layer.place;
      const bool run = !routed || (forced_ ? forced_[at] != 0 : gate[t] > routes_.threshold);
      if (routed && thread == 0) {
        gates_[at] = gate[t];
        executed_[at] = run;
      }
      if (run) ran[runs++] = t;
      else skipped[skips++] = t;
    }
    for (int64_t i = thread; i < count_ * s.kv_heads; i += team) remember(layer, i / s.kv_heads, i % s.kv_heads);

    const float* xs[BLOCK];
    auto only = [&](const int64_t* chosen, int64_t count, Buffer& buffer, int64_t width) {
      for (int64_t i = 0; i < count; i++) {
        xs[i] = own + chosen[i] * s.hidden;
        y[i] = buffer.data() + chosen[i] * width;
      }
    };
    if (runs) {
      only(ran, runs, queries_, q_width);
      multiply(thread, layer.q, xs, y, runs);
      meet();
      // Heads that share keys and values go together, unless that leaves a thread without work.
      const int64_t group = runs * s.kv_heads >= 4 * team ? s.heads / s.kv_heads : 1, groups = s.heads / group;
      for (int64_t i = thread; i < runs * groups; i += team)
        attend(layer, thread, ran[i / groups], i % groups * group, group);
      meet();
      for (int64_t i = 0; i < runs; i++) {
        xs[i] = attended_.data() + ran[i] * q_width;
        y[i] = hidden_.data() + ran[i] * s.hidden;
      }
      multiply(thread, layer.o, xs, y, runs, nullptr, true);
      meet();
    }

    for (int64_t t = 0; t < count_; t++)
      kernels_.rms_norm(hidden_.data() + t * s.hidden, layer.post_norm, own + t * s.hidden, s.hidden, s.eps);
    const bool scaled = routed && s.scaled;
    float factor[BLOCK];
    // The first halves write to rows of their own tokens, so FFN and adapter need no meeting between them.
    if (runs) narrow(thread, layer.gate, layer.up, ran, runs, own);
    if (skips) narrow(thread, layer.adapter_gate, layer.adapter_up, skipped, skips, own);
    meet();
    if (runs) {
      for (int64_t i = 0; i < runs; i++) factor[i] = scaled && !routes_.unscaled ? gate[ran[i]] : 1.0f;
      widen(thread, layer.down, ran, runs, factor);
    }
    if (skips) {
      for (int64_t i = 0; i < skips; i++) factor[i] = scaled ? 1.0f - gate[skipped[i]] : 1.0f;
      widen(thread, layer.adapter_down, skipped, skips, factor);
    }
    meet();
  }

  // inner = silu(first @ x) * (second @ x), for this thread's rows
  void narrow(int thread, const Matrix& first, const Matrix& second, const int64_t* chosen, int64_t count,
              const float* own) {
    const int64_t stride = inner_width();
    const float* x[BLOCK];
    float *a[BLOCK], *b[BLOCK];
    for (int64_t i = 0; i < count; i++) {
      x[i] = own + chosen[i] * shape_.hidden;
      a[i] = inner_.data() + chosen[i] * stride;
      b[i] = outer_.data() + chosen[i] * stride;
    }
    multiply(thread, first, x, a, count);
    multiply(thread, second, x, b, count);
    const int team = model_.team->size();
    const int64_t from = cut(first.rows, thread, team), to = cut(first.rows, thread + 1, team);
    for (int64_t i = 0; i < count; i++) kernels_.swiglu(a[i] + from, b[i] + from, to - from);
  }

  // hidden += factor * (m @ inner)
  void widen(int thread, const Matrix& m, const int64_t* chosen, int64_t count, const float* factor) {
    const int64_t stride = inner_width();
    const float* x[BLOCK];
    float* y[BLOCK];
    for (int64_t i = 0; i < count; i++) {
      x[i] = inner_.data() + chosen[i] * stride;
      y[i] = hidden_.data() + chosen[i] * shape_.hidden;
    }
    multiply(thread, m, x, y, count, factor, true);
  }

  float gate_of(const Layer& layer, const float* reduced) const {
    const int64_t width = shape_.router_width;
    double squares = 0;
    for (int64_t i = 0; i < width; i++) {
      const double value = shape_.tanh_first ? std::tanh(reduced[i]) : reduced[i];
      squares += value * value;
    }
    const float inverse = float(1.0 / std::sqrt(squares / double(width) + shape_.eps));
    double logit = 0;
    for (int64_t i = 0; i < width; i++) {
      const float value = shape_.tanh_first ? layer.router_norm[i] * (std::tanh(reduced[i]) * inverse)
                                            : std::tanh(layer.router_norm[i] * (reduced[i] * inverse));
      logit += double(value) * layer.router_out[i];
    }
    return float(1.0 / (1.0 + std::exp(-logit)));
  }

  int64_t cached_bytes() const { return shape_.half_cache ? sizeof(uint16_t) : sizeof(float); }

  char* slot(char* cache, const Layer& layer, int64_t kv_head, int64_t position) const {
    const int64_t number = &layer - model_.layers.data();
    const int64_t at = (number * shape_.kv_heads + kv_head) * shape_.positions + position;
    return cache + at * shape_.head_dim * cached_bytes();
  }

  void turn(float* head, int64_t t) const {
    const int64_t half = shape_.head_dim / 2;
    const float *cosines = cosines_.data() + t * half, *sines = sines_.data() + t * half;
    for (int64_t i = 0; i < half; i++) {
      const float a = head[i], b = head[i + half];
      head[i] = a * cosines[i] - b * sines[i];
      head[i + half] = b * cosines[i] + a * sines[i];
    }
  }

  void remember(const Layer& layer, int64_t t, int64_t kv_head) {
    const int64_t size = shape_.head_dim, at = (t * shape_.kv_heads + kv_head) * size;
    turn(keys_.data() + at, t);
    keep(keys_.data() + at, slot(sequence_.keys, layer, kv_head, start_ + t));
    keep(values_.data() + at, slot(sequence_.values, layer, kv_head, start_ + t));
  }

  void keep(const float* head, char* to) const {
    if (!shape_.half_cache) std::memcpy(to, head, shape_.head_dim * sizeof(float));
    else
      for (int64_t i = 0; i < shape_.head_dim; i++) reinterpret_cast<uint16_t*>(to)[i] = rounded(head[i]);
  }

  // `count` heads from `first` on, which share keys and values.
  void attend(const Layer& layer, int thread, int64_t t, int64_t first, int64_t count) {
    const Shape& s = shape_;
    const int64_t kv_head = first / (s.heads / s.kv_heads), room = room_for_scores();
    for (int64_t done = 0; done < count; done += HEADS_TOGETHER) {
      const int64_t here = count - done < HEADS_TOGETHER ? count - done : HEADS_TOGETHER;
      const float* queries[HEADS_TOGETHER];
      float* out[HEADS_TOGETHER];
      for (int64_t n = 0; n < here; n++) {
        const int64_t at = (t * s.heads + first + done + n) * s.head_dim;
        turn(queries_.data() + at, t);
        queries[n] = queries_.data() + at;
        out[n] = attended_.data() + at;
      }
      kernels_.attend(queries, here, slot(sequence_.keys, layer, kv_head, 0),
                      slot(sequence_.values, layer, kv_head, 0), s.half_cache, start_ + t + 1, s.head_dim,
                      1.0f / std::sqrt(float(s.head_dim)), scores_.data() + thread * HEADS_TOGETHER * room, room, out);
    }
  }

  Model& model_;
  const Shape& shape_;
  const Kernels& kernels_;
  Sequence& sequence_;
  const Routes& routes_;
  const int64_t rows_;
  const int32_t* tokens_ = nullptr;
  int64_t count_ = 0, kept_ = 0, start_ = 0;
  const uint8_t* forced_ = nullptr;
  float *logits_ = nullptr, *gates_ = nullptr;
  uint8_t* executed_ = nullptr;
  Buffer hidden_, queries_, attended_, keys_, values_, reduced_, inner_, outer_, cosines_, sines_;
  Buffer normed_, scores_, tiles_;  // a part for each thread
};

}  // namespace

// --- the interface; kept in step with binding.py -------------------------------------------------------------------

#define EXPORTED __attribute__((visibility("default")))

extern "C" {

EXPORTED int64_t fdx_best_level() { return best_level(); }

// Null for a level that this machine lacks, or without memory.
EXPORTED void* fdx_model_new(const Shape* shape, const Layer* layers, const Matrix* embedding, const Matrix* head,
                    const float* norm, const float* frequencies, int64_t threads, int64_t level) {
  if (level > best_level() || !kernels_of(level)) return nullptr;
  try {
    auto model = std::make_unique<Model>();
    model->shape = *shape;
    model->layers.assign(layers, layers + shape->layers);
    model->embedding = *embedding;
    model->head = *head;
    model->norm = norm;
    model->frequencies = frequencies;
    model->kernels = kernels_of(level);
    model->team = std::make_unique<Team>(int(threads));
    model->home = getpid();
    return model.release();
  } catch (...) {
    return nullptr;
  }
}

EXPORTED void fdx_model_free(void* model) { delete static_cast<Model*>(model); }

EXPORTED void* fdx_sequence_new(void* model) {
  const Shape& s = static_cast<Model*>(model)->shape;
  auto sequence = new (std::nothrow) Sequence{};
  if (!sequence) return nullptr;
  const size_t element = s.half_cache ? sizeof(uint16_t) : sizeof(float);
  sequence->bytes = size_t(s.layers * s.kv_heads * s.positions * s.head_dim) * element;
  auto room = [&] {
    return mmap(nullptr, sequence->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  };
  void *keys = room(), *values = room();
  if (keys == MAP_FAILED || values == MAP_FAILED) {
    if (keys != MAP_FAILED) munmap(keys, sequence->bytes);
    if (values != MAP_FAILED) munmap(values, sequence->bytes);
    delete sequence;
    return nullptr;
  }
  sequence->keys = static_cast<char*>(keys);
  sequence->values = static_cast<char*>(values);
  return sequence;
}

EXPORTED void fdx_sequence_free(void* handle) {
  auto sequence = static_cast<Sequence*>(handle);
  munmap(sequence->keys, sequence->bytes);
  munmap(sequence->values, sequence->bytes);
  delete sequence;
}

// Feeds `count` tokens. logits: [kept, vocab], gates: [count, routed], executed: [count, routed]. 0 when done, 1 for a
// token that the model does not have or a sequence that is full, 2 without memory.
EXPORTED int64_t fdx_feed(void* model_handle, void* sequence_handle, const int32_t* tokens, int64_t count,
                          const Routes* routes, float* logits, int64_t kept, float* gates, uint8_t* executed) {
  Model& model = *static_cast<Model*>(model_handle);
  Sequence& sequence = *static_cast<Sequence*>(sequence_handle);
  const Shape& s = model.shape;
  if (count < 1 || kept > count || sequence.length + count > s.positions) return 1;
  for (int64_t t = 0; t < count; t++)
    if (tokens[t] < 0 || tokens[t] >= s.vocab) return 1;
  try {
    model.settle();
    std::lock_guard<std::mutex> hold(model.one_pass);
    for (int64_t first = 0; first < count; first += BLOCK) {
      const int64_t here = count - first < BLOCK ? count - first : BLOCK;
      const int64_t skip = count - kept;  // tokens whose logits nobody wants
      const int64_t wanted = first + here <= skip ? 0 : (first >= skip ? here : first + here - skip);
      Pass pass(model, sequence, *routes, here);
      pass.run(tokens + first, here, routes->forced ? routes->forced + first * s.routed : nullptr,
               wanted ? logits + (first + here - wanted - skip) * s.vocab : nullptr, wanted, gates + first * s.routed,
               executed + first * s.routed);
    }
  } catch (...) {
    return 2;
  }
  return 0;
}
}
