// The paged cache, and attention over it, one call of the kernels at a time.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <vector>

#include "bind.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace headway {
namespace {

void attend(const std::string& name, const Cache& cache, const Span& span, Address queries, int heads, int kv_head,
            int first_row, int last_row, int first_position, int last_position, int window, Address out, Address top,
            Address total) {
  const Kernels& kernels = kernels_named(name);
  std::vector<std::uint8_t> scratch(
      kernels.scratch_bytes(last_row - first_row, heads / cache.heads, cache.head_dim));
  kernels.attend(cache, span, at<const bf16>(queries), heads, kv_head, first_row, last_row, first_position,
                 last_position, window, at<float>(out), at<float>(top), at<float>(total), scratch.data());
}

// All rows, heads and positions of a batch.
void attend_all(const std::string& name, Pool& pool, const Cache& cache, const std::vector<Span>& spans,
                Address queries, int heads, Address out, Address top, Address total) {
  constexpr int TILE = 16;
  const Kernels& kernels = kernels_named(name);
  const int group = heads / cache.heads, head_dim = cache.head_dim;
  struct Piece {
    const Span* span;
    int kv_head, row;
  };
  std::vector<Piece> pieces;
  for (const Span& span : spans)
    for (int kv_head = 0; kv_head < cache.heads; ++kv_head)
      for (int row = 0; row < span.count; row += TILE) pieces.push_back({&span, kv_head, row});
  std::vector<std::vector<std::uint8_t>> scratch(pool.threads());
  for (auto& each : scratch) each.resize(kernels.scratch_bytes(TILE, group, head_dim));
  pool.run([&](Worker& worker) {
    worker.share(int(pieces.size()), 1, [&](int first, int last) {
      for (int index = first; index < last; ++index) {
        const auto [span, kv_head, row] = pieces[index];
        const int end = std::min(row + TILE, span->count);
        const std::ptrdiff_t place = std::ptrdiff_t(span->row + row) * heads + kv_head * group;
        kernels.attend(cache, *span, at<const bf16>(queries), heads, kv_head, row, end, 0, span->start + end, 0,
                       at<float>(out) + place * head_dim, at<float>(top) + place, at<float>(total) + place,
                       scratch[worker.index()].data());
      }
    });
  });
}

void merge(const std::string& name, Address outs, Address tops, Address totals, int ranges, int heads, int head_dim,
           Address out) {
  kernels_named(name).merge(at<const float>(outs), at<const float>(tops), at<const float>(totals), ranges, heads,
                            head_dim, at<float>(out));
}

}  // namespace

void bind_attention(nb::module_& module) {
  nb::class_<Cache>(module, "Cache")
      .def(
          "__init__",
          [](Cache* self, Address keys, Address values, std::ptrdiff_t stride, int block_size, int heads, int head_dim) {
            new (self) Cache{at<bf16>(keys), at<bf16>(values), stride, block_size, heads, head_dim};
          },
          nb::kw_only(), "keys"_a, "values"_a, "stride"_a, "block_size"_a, "heads"_a, "head_dim"_a);
  nb::class_<Span>(module, "Span")
      .def(
          "__init__",
          [](Span* self, int row, int count, int start, Address blocks) {
            new (self) Span{row, count, start, at<const std::int32_t>(blocks)};
          },
          "row"_a, "count"_a, "start"_a, "blocks"_a);
  const auto free = nb::call_guard<nb::gil_scoped_release>();
  module.def("attend", &attend, nb::kw_only(), "kernels"_a, "cache"_a, "span"_a, "queries"_a, "heads"_a, "kv_head"_a,
             "first_row"_a, "last_row"_a, "first_position"_a, "last_position"_a, "window"_a, "out"_a, "top"_a,
             "total"_a, free);
  module.def("attend_all", &attend_all, nb::kw_only(), "kernels"_a, "pool"_a, "cache"_a, "spans"_a, "queries"_a,
             "heads"_a, "out"_a, "top"_a, "total"_a, free);
  module.def("merge", &merge, nb::kw_only(), "kernels"_a, "outs"_a, "tops"_a, "totals"_a, "ranges"_a, "heads"_a,
             "head_dim"_a, "out"_a, free);
}

}  // namespace headway
