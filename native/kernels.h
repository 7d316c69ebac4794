// What the decoder is made of, once for each kind of processor. Plain pointers throughout; who calls owns the memory.
//
// Every function does a share of a job: the pool's threads call the same function with different shares, and meet at a
// barrier before the next. None of them allocates, waits or throws.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headway {

using bf16 = std::uint16_t;  // the upper half of a float

inline constexpr int PANEL = 32;  // outputs of a linear layer that are packed together
inline constexpr int HALF_PANEL = PANEL / 2;
inline constexpr int LANE = 16;  // positions of the KV cache that are packed together; a block has a multiple of them
inline constexpr int RANGE = 512;  // positions whose attention is summed up by itself, whoever asks for how many

enum class Format : int { BF16 = 0, INT8 = 1 };

// A linear layer, packed: for each panel of 32 outputs (the last one padded with zeros), for each group of inputs (2 in
// bf16, 4 in int8; the last one padded with zeros), 32 outputs x the group's inputs.
//
// int8: weight[n][k] = scale[n] * data[n][k]; sums[n] is the sum of data[n][:], by which activations are shifted.
struct Linear {
  Format format;
  int outputs;
  int inputs;
  const void* data;
  const float* scales;        // int8: one for each output, padded to whole panels; else null
  const std::int32_t* sums;   // the same
  const float* bias;          // one for each output, padded to whole panels; or null
};

// What a linear layer reads: rows of bf16, or of 8-bit numbers u with value = scale[row] * (u - 128). `stride` is in
// elements; a row is padded with zeros (u = 128) to a whole group of inputs.
struct Rows {
  const void* data;
  std::ptrdiff_t stride;
  const float* scales;  // int8: one a row; else null
};

// What becomes of a product.
enum class Into : int {
  STORE = 0,  // out (float) = product + bias
  ADD = 1,    // out (float) += product + bias
  GATE = 2,   // out (float), half as wide: silu(product[:16]) * product[16:] of each panel
  GATE_BF16 = 3,  // the same, out is bf16
};

struct Output {
  Into into;
  void* data;
  std::ptrdiff_t stride;  // in elements of `data`
};

// New tokens of one sequence in the flat batch: rows `row .. row + count - 1`, at positions `start` and on.
struct Span {
  int row;
  int count;
  int start;
  const std::int32_t* blocks;  // the sequence's block table
};

// One layer's keys and values. A block of one head is block_size x head_dim numbers of bf16, laid out as the right-hand
// side of the product it is used in, and a block of the next number is `stride` numbers further:
//   keys    [block][head][block_size / 16][head_dim / 2][16 positions][2 dimensions]
//   values  [block][head][block_size / 2][head_dim][2 positions]
struct Cache {
  bf16* keys;
  bf16* values;
  std::ptrdiff_t stride;
  int block_size;
  int heads;     // key/value heads
  int head_dim;  // even
};

// Which tokens can be drawn, and how likely. Each filter is a least probability: tokens exactly as likely as the last
// one kept are kept too. `top_p` is a share of what `top_k` leaves.
struct Rules {
  float temperature;  // above 0
  int top_k;          // at least 1; as many as there are tokens, or more: all
  double top_p;       // 1 or more: all
  float min_p;        // a share of the largest probability
};

// A processor's kernels.
struct Kernels {
  const char* name;

  // ---- linear layers
  // Pack panels first_panel .. last_panel - 1 of `weight` (row-major [outputs, inputs], bf16).
  void (*pack_bf16)(const bf16* weight, int outputs, int inputs, void* data, int first_panel, int last_panel);
  // The same to int8, symmetric, one scale an output: the largest magnitude becomes 127.
  void (*pack_int8)(const bf16* weight, int outputs, int inputs, void* data, float* scales, std::int32_t* sums,
                    int first_panel, int last_panel);
  // out[:, panels] = rows x panels. Sums are fp32 (bf16) or int32 (int8).
  void (*multiply)(const Linear& linear, const Rows& rows, int count, int first_panel, int last_panel,
                   const Output& out);

  // ---- rows
  // out = x / sqrt(mean(x^2) + epsilon) * weight, for one row of `size`; out is bf16, padded to a multiple of 4.
  void (*norm_bf16)(const float* x, const float* weight, int size, float epsilon, bf16* out);
  // The same, quantised: see Rows.
  void (*norm_int8)(const float* x, const float* weight, int size, float epsilon, std::uint8_t* out, float* scale);
  // One row of floats as bf16, or quantised.
  void (*to_bf16)(const float* x, int size, bf16* out);
  void (*to_int8)(const float* x, int size, std::uint8_t* out, float* scale);
  // One token's heads (fp32, [heads + 2 * kv_heads, head_dim], queries, keys, values): norm of queries and keys where
  // query_norm is not null, rotation of both (angles as cos and sin, [head_dim / 2]; dimension i turns with i +
  // head_dim / 2), then keys and values into the cache at `slot` of `block`, and queries, times `scale`, to bf16.
  void (*rotate)(float* mixed, int heads, const float* query_norm, const float* key_norm, float epsilon,
                 const float* cosines, const float* sines, float scale, const Cache& cache, int block, int slot,
                 bf16* queries);

  // ---- attention
  // Queries `first_row .. last_row - 1` of `span` (counted within it), all query heads of key/value head `kv_head`, over
  // positions first_position .. last_position - 1 (the first a multiple of RANGE, the last as well or the sequence's
  // end), causal, and no further back than `window` positions, itself included (0: all). `queries`: bf16
  // [batch rows][heads][head_dim], scaled.
  // For each (row, head of the group): out[...][head_dim] fp32, the weighted sum of values, not yet divided; top and
  // total: the largest score and the sum of exp(score - top); minus infinity and 0 where no position is seen. All three
  // point to the first row's first head of the group; the next row is `heads` heads further. Whatever lies in the
  // cache behind the sequence's end doesn't matter. Scratch is the caller's: scratch_bytes of it.
  void (*attend)(const Cache& cache, const Span& span, const bf16* queries, int heads, int kv_head, int first_row,
                 int last_row, int first_position, int last_position, int window, float* out, float* top,
                 float* total, void* scratch);
  std::size_t (*scratch_bytes)(int rows, int group, int head_dim);
  // Several ranges of one (row, head) as one: out[head_dim], divided. The next range is `heads` heads further.
  // The same bits as from one range that spans them all.
  void (*merge)(const float* outs, const float* tops, const float* totals, int ranges, int heads, int head_dim,
                float* out);

  // ---- tokens
  // The first index of the largest of `count` numbers; -1 where one is NaN or the largest is infinite.
  int (*largest)(const float* values, int count);
  // One of `count` tokens, drawn by `rules` at `number`, in [0, 1): the first at which the cumulative probability, in
  // the order of tokens, exceeds the number times its total. -1 where `largest` says so, or where the largest logit over
  // the temperature is infinite. Scratch: 2 * count floats.
  int (*sample)(const float* logits, int count, const Rules& rules, double number, float* scratch);
};

// The best kernels for this processor, or those called `name` ("avx512", "avx2", "portable"); null if it can't run them.
const Kernels* choose_kernels(const char* name);

}  // namespace headway
