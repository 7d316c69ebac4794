// A decoder-only transformer: one step, from tokens to logits, as one parallel region.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "room.h"

namespace headway {

struct Layer {
  const float* attention_norm;
  Linear qkv;  // queries, keys, values of all heads, side by side
  const float* query_norm;  // or null
  const float* key_norm;
  Linear output;
  const float* feed_forward_norm;
  Linear gate_up;  // each panel: 16 outputs of the gate, then the same 16 of up
  Linear down;
  int window;  // positions that a token sees, itself included; 0: all
  Cache cache;
};

struct Model {
  Format format;
  int hidden;
  int heads;
  int kv_heads;
  int head_dim;
  int intermediate;
  int vocabulary;
  float epsilon;
  const float* frequencies;  // radians a position, [head_dim / 2]
  float rotation_scale;      // of cosine and sine
  const bf16* embedding;     // [vocabulary, hidden]; null: the rows of the head
  std::vector<Layer> layers;
  const float* final_norm;
  Linear head;
};

// The flat batch of a step: the new tokens of all sequences, one after the other.
struct Batch {
  const std::int32_t* tokens;
  int count;
  const Span* spans;
  int span_count;
  const std::int32_t* picked;  // rows, rising, whose logits are wanted
  int picked_count;
};

class Decoder {
 public:
  Decoder(const Kernels& kernels, Pool& pool, Model model);

  // Runs the batch: every layer's cache holds its keys and values afterwards. Logits are fp32 [picked_count,
  // vocabulary]. Used by one thread at a time. Throws std::bad_alloc where there is no memory for the batch.
  void run(const Batch& batch, float* logits);

 private:
  // New tokens of one sequence that one share of the attention takes.
  static constexpr int TILE = 16;

  // A share of the attention: some rows of a span, one key/value head, one part of its positions. Of a single new token
  // a part is RANGE positions, so that a long sequence keeps all threads busy; of more, all positions.
  struct Piece {
    int span;
    int kv_head;
    int first_row;
    int last_row;
    int first_position;
    int last_position;
    int part;
  };

  void plan(const Batch& batch);
  std::size_t row_bytes() const;
  void embed(const Batch& batch, int row, float* out) const;
  void attend(const Batch& batch, const Layer& layer, const Piece& piece, Worker& worker);
  void gather(int row, float* out) const;

  const Kernels& kernels_;
  Pool& pool_;
  Model model_;

  // The room of a step; it grows to the largest one seen. Indexed by the batch's rows but where something else is said.
  Room<float> hidden_, cosines_, sines_, row_scales_;
  Room<float> picked_;                           // the stream of the picked rows, from the last layer's attention on
  Room<float> tops_, totals_;                    // what `attend` gives, [parts][heads], beside partial_
  Room<bf16> queries_;
  Room<std::uint8_t> rows_;                      // what linear layers read
  // One room for what is never needed at once: mixed_ (queries, keys and values, then what is attended) and partial_ (see
  // tops_) until the output product; then, until the last one of the layer, what is gated, as int8 or bf16 has it.
  Room<float> shared_;
  float* mixed_ = nullptr;
  float* partial_ = nullptr;
  float* wide_ = nullptr;
  bf16* gated_ = nullptr;
  std::vector<std::vector<std::uint8_t>> scratch_;  // one a thread
  std::vector<Piece> pieces_;
  std::vector<int> positions_, blocks_;
  std::vector<int> parts_;                       // where a row's parts begin; one more than rows
};

}  // namespace headway
