#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace headway {
namespace {

constexpr int GROUP_MAX = 4;  // inputs that are packed together: rows are padded to a multiple of it

int padded(int size) { return (size + GROUP_MAX - 1) / GROUP_MAX * GROUP_MAX; }
int panels(const Linear& linear) { return (linear.outputs + PANEL - 1) / PANEL; }

template <class T, class Memory>
void grow(std::vector<T, Memory>& room, std::size_t size) {
  if (room.size() < size) room.resize(size);
}

float widen(bf16 value) {
  const std::uint32_t bits = std::uint32_t{value} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// One row of a packed layer's weights: what an embedding tied to the head looks up.
void unpack_row(const Linear& linear, int row, float* out) {
  const int group = linear.format == Format::BF16 ? 2 : 4;
  const int groups = (linear.inputs + group - 1) / group;
  const std::size_t first = (std::size_t(row / PANEL) * groups * PANEL + row % PANEL) * group;
  for (int input = 0; input < linear.inputs; ++input) {
    const std::size_t place = first + std::size_t(input / group) * PANEL * group + input % group;
    out[input] = linear.format == Format::BF16
                     ? widen(static_cast<const bf16*>(linear.data)[place])
                     : linear.scales[row] * float(static_cast<const std::int8_t*>(linear.data)[place]);
  }
}

}  // namespace

Decoder::Decoder(const Kernels& kernels, Pool& pool, Model model)
    : kernels_(kernels), pool_(pool), model_(std::move(model)) {
  const int group = model_.heads / model_.kv_heads;
  scratch_.resize(pool.threads());
  for (auto& scratch : scratch_) scratch.resize(kernels.scratch_bytes(TILE, group, model_.head_dim));
}

void Decoder::run(const Batch& batch, float* logits) {
  plan(batch);
  const int hidden = model_.hidden, heads = model_.heads, kv_heads = model_.kv_heads, size = model_.head_dim;
  const int mixed = (heads + 2 * kv_heads) * size, attended = heads * size;
  const int gated = model_.layers.front().gate_up.outputs / 2;  // whole panels of it
  const bool quantised = model_.format == Format::INT8;
  const std::size_t bytes = row_bytes(), item = quantised ? 1 : sizeof(bf16);

  float* const stream = hidden_.data();
  const auto row_at = [&](int row) { return rows_.data() + std::size_t(row) * bytes; };
  const Rows rows{rows_.data(), std::ptrdiff_t(bytes / item), quantised ? row_scales_.data() : nullptr};
  const auto norm = [&](const float* x, const float* weight, int row) {
    if (quantised)
      kernels_.norm_int8(x, weight, hidden, model_.epsilon, row_at(row), &row_scales_[row]);
    else
      kernels_.norm_bf16(x, weight, hidden, model_.epsilon, reinterpret_cast<bf16*>(row_at(row)));
  };
  const auto convert = [&](const float* x, int width, int row) {
    if (quantised)
      kernels_.to_int8(x, width, row_at(row), &row_scales_[row]);
    else
      kernels_.to_bf16(x, width, reinterpret_cast<bf16*>(row_at(row)));
  };

  pool_.run([&](Worker& worker) {
    const auto multiply = [&](const Linear& linear, const Rows& from, int count, const Output& out) {
      const int total = panels(linear);
      worker.share(total, std::max(1, total / (8 * worker.threads())), [&](int first, int last) {
        kernels_.multiply(linear, from, count, first, last, out);
      });
      worker.barrier();
    };
    const auto each_row = [&](int count, auto&& body) {
      worker.share(count, std::max(1, count / (4 * worker.threads())), [&](int first, int last) {
        for (int row = first; row < last; ++row) body(row);
      });
      worker.barrier();
    };

    each_row(batch.count, [&](int row) {
      embed(batch, row, stream + std::size_t(row) * hidden);
      norm(stream + std::size_t(row) * hidden, model_.layers.front().attention_norm, row);
      const int position = positions_[row];
      for (int pair = 0; pair < size / 2; ++pair) {
        const float angle = float(position) * model_.frequencies[pair];
        cosines_[std::size_t(row) * (size / 2) + pair] = std::cos(angle) * model_.rotation_scale;
        sines_[std::size_t(row) * (size / 2) + pair] = std::sin(angle) * model_.rotation_scale;
      }
    });

    int count = batch.count;
    for (std::size_t place = 0; place < model_.layers.size(); ++place) {
      const Layer& layer = model_.layers[place];
      const bool last = place + 1 == model_.layers.size();
      multiply(layer.qkv, rows, count, {Into::STORE, mixed_, mixed});
      each_row(count, [&](int row) {
        const std::size_t angle = std::size_t(row) * (size / 2);
        kernels_.rotate(mixed_ + std::size_t(row) * mixed, heads, layer.query_norm, layer.key_norm,
                        model_.epsilon, &cosines_[angle], &sines_[angle], 1.0f / std::sqrt(float(size)), layer.cache,
                        blocks_[row], positions_[row] % layer.cache.block_size,
                        &queries_[std::size_t(row) * attended]);
      });
      if (last && batch.picked_count == 0) return;
      worker.share(int(pieces_.size()), 1, [&](int first, int end) {
        for (int piece = first; piece < end; ++piece) attend(batch, layer, pieces_[piece], worker);
      });
      worker.barrier();
      // In the last layer only the picked rows go on, each on its own from here.
      if (last) count = batch.picked_count;
      each_row(count, [&](int place) {
        const int row = last ? batch.picked[place] : place;
        float* const values = mixed_ + std::size_t(place) * mixed;
        gather(row, values);
        convert(values, attended, place);
        if (last)
          std::memcpy(picked_.data() + std::size_t(place) * hidden, stream + std::size_t(row) * hidden,
                      sizeof(float) * hidden);
      });
      float* const residual = last ? picked_.data() : stream;
      multiply(layer.output, rows, count, {Into::ADD, residual, hidden});
      each_row(count, [&](int row) { norm(residual + std::size_t(row) * hidden, layer.feed_forward_norm, row); });
      if (quantised) {
        multiply(layer.gate_up, rows, count, {Into::GATE, wide_, gated});
        each_row(count, [&](int row) { convert(wide_ + std::size_t(row) * gated, model_.intermediate, row); });
        multiply(layer.down, rows, count, {Into::ADD, residual, hidden});
      } else {
        // Padded weights are zeros, and so is what they gate: the next product may read it.
        multiply(layer.gate_up, rows, count, {Into::GATE_BF16, gated_, gated});
        multiply(layer.down, {gated_, gated, nullptr}, count, {Into::ADD, residual, hidden});
      }
      const float* const next = last ? model_.final_norm : model_.layers[place + 1].attention_norm;
      each_row(count, [&](int row) { norm(residual + std::size_t(row) * hidden, next, row); });
    }
    multiply(model_.head, rows, count, {Into::STORE, logits, model_.vocabulary});
  });
}

// Where each token goes, and the shares of the attention.
void Decoder::plan(const Batch& batch) {
  const int heads = model_.heads, kv_heads = model_.kv_heads, size = model_.head_dim;
  const std::size_t count = batch.count;
  const int block_size = model_.layers.front().cache.block_size;
  grow(positions_, count);
  grow(blocks_, count);
  grow(parts_, count + 1);
  pieces_.clear();
  parts_[0] = 0;
  for (int index = 0; index < batch.span_count; ++index) {
    const Span& span = batch.spans[index];
    const int end = span.start + span.count;
    const int length = span.count == 1 ? RANGE : end;
    for (int offset = 0; offset < span.count; ++offset) {
      const int row = span.row + offset, position = span.start + offset;
      positions_[row] = position;
      blocks_[row] = span.blocks[position / block_size];
      parts_[row + 1] = parts_[row] + (end + length - 1) / length;
    }
    for (int first = 0; first < span.count; first += TILE)
      for (int head = 0; head < kv_heads; ++head)
        for (int position = 0, part = 0; position < end; position += length, ++part)
          pieces_.push_back({index, head, first, std::min(first + TILE, span.count), position,
                             std::min(position + length, end), part});
  }
  const std::size_t parts = parts_[count];
  grow(hidden_, count * model_.hidden);
  grow(picked_, std::size_t(batch.picked_count) * model_.hidden);
  grow(queries_, count * heads * size);
  grow(cosines_, count * size / 2);
  grow(sines_, count * size / 2);
  const std::size_t mixed = count * (heads + 2 * kv_heads) * size;
  const std::size_t gated = count * (model_.layers.front().gate_up.outputs / 2);
  const std::size_t gate = model_.format == Format::INT8 ? gated : (gated + 1) / 2;
  grow(shared_, std::max(mixed + parts * heads * size, gate));
  mixed_ = wide_ = shared_.data();
  partial_ = mixed_ + mixed;
  gated_ = reinterpret_cast<bf16*>(shared_.data());
  grow(tops_, parts * heads);
  grow(totals_, parts * heads);
  grow(row_scales_, count);
  grow(rows_, count * row_bytes());
}

// Of what is multiplied in one row. In bf16 the gated one has a place of its own.
std::size_t Decoder::row_bytes() const {
  const int narrow = std::max(model_.hidden, model_.heads * model_.head_dim);
  return model_.format == Format::INT8 ? padded(std::max(narrow, model_.intermediate)) : padded(narrow) * sizeof(bf16);
}

void Decoder::embed(const Batch& batch, int row, float* out) const {
  const int token = batch.tokens[row];
  if (!model_.embedding) return unpack_row(model_.head, token, out);
  const bf16* const values = model_.embedding + std::size_t(token) * model_.hidden;
  for (int index = 0; index < model_.hidden; ++index) out[index] = widen(values[index]);
}

void Decoder::attend(const Batch& batch, const Layer& layer, const Piece& piece, Worker& worker) {
  const Span& span = batch.spans[piece.span];
  const int group = model_.heads / model_.kv_heads;
  const std::size_t first = std::size_t(parts_[span.row + piece.first_row] + piece.part) * model_.heads +
                            std::size_t(piece.kv_head) * group;
  kernels_.attend(layer.cache, span, queries_.data(), model_.heads, piece.kv_head, piece.first_row, piece.last_row,
                  piece.first_position, piece.last_position, layer.window, &partial_[first * model_.head_dim],
                  &tops_[first], &totals_[first], scratch_[worker.index()].data());
}

// The attention of one row, all heads side by side.
void Decoder::gather(int row, float* out) const {
  const int size = model_.head_dim;
  for (int head = 0; head < model_.heads; ++head) {
    const std::size_t first = std::size_t(parts_[row]) * model_.heads + head;
    kernels_.merge(&partial_[first * size], &tops_[first], &totals_[first], parts_[row + 1] - parts_[row],
                   model_.heads, size, out + std::size_t(head) * size);
  }
}

}  // namespace headway
