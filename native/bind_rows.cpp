// What is done to one row: norms, conversions, rotation, the choice of a token.
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>
#include <vector>

#include "bind.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace headway {
namespace {

void norm(const std::string& name, bool int8, Address x, Address weight, int size, float epsilon, Address out,
          Address scale) {
  const Kernels& kernels = kernels_named(name);
  if (int8)
    kernels.norm_int8(at<const float>(x), at<const float>(weight), size, epsilon, at<std::uint8_t>(out),
                      at<float>(scale));
  else
    kernels.norm_bf16(at<const float>(x), at<const float>(weight), size, epsilon, at<bf16>(out));
}

void convert(const std::string& name, bool int8, Address x, int size, Address out, Address scale) {
  const Kernels& kernels = kernels_named(name);
  if (int8)
    kernels.to_int8(at<const float>(x), size, at<std::uint8_t>(out), at<float>(scale));
  else
    kernels.to_bf16(at<const float>(x), size, at<bf16>(out));
}

void rotate(const std::string& name, Address mixed, int heads, Address query_norm, Address key_norm, float epsilon,
            Address cosines, Address sines, float scale, const Cache& cache, int block, int slot, Address queries) {
  kernels_named(name).rotate(at<float>(mixed), heads, at<const float>(query_norm), at<const float>(key_norm), epsilon,
                             at<const float>(cosines), at<const float>(sines), scale, cache, block, slot,
                             at<bf16>(queries));
}

// body(row, thread) for each row, on all threads of the pool if there is one.
template <class Body>
void each_row(Pool* pool, int rows, Body&& body) {
  if (pool == nullptr) {
    for (int row = 0; row < rows; ++row) body(row, 0);
    return;
  }
  pool->run([&](Worker& worker) {
    worker.share(rows, 1, [&](int first, int last) {
      for (int row = first; row < last; ++row) body(row, worker.index());
    });
  });
}

// One index for each of `rows` rows, `stride` floats apart.
std::vector<int> largest(const std::string& name, Pool* pool, Address values, std::ptrdiff_t stride, int rows,
                         int count) {
  const Kernels& kernels = kernels_named(name);
  std::vector<int> found(rows);
  each_row(pool, rows, [&](int row, int) { found[row] = kernels.largest(at<const float>(values) + row * stride, count); });
  return found;
}

// Temperature, top_k, top_p, min_p, and the number to draw at.
using Rule = std::tuple<float, int, double, float, double>;

// One token for each of the rules, whose rows are `stride` floats apart.
std::vector<int> sample(const std::string& name, Pool* pool, Address logits, std::ptrdiff_t stride, int count,
                        const std::vector<Rule>& rules) {
  const Kernels& kernels = kernels_named(name);
  const std::size_t room = 2 * std::size_t(count);
  std::vector<float> scratch(room * (pool == nullptr ? 1 : pool->threads()));
  std::vector<int> tokens(rules.size());
  each_row(pool, int(rules.size()), [&](int row, int thread) {
    const auto& [temperature, top_k, top_p, min_p, number] = rules[row];
    tokens[row] = kernels.sample(at<const float>(logits) + row * stride, count, {temperature, top_k, top_p, min_p},
                                 number, &scratch[room * thread]);
  });
  return tokens;
}

}  // namespace

void bind_rows(nb::module_& module) {
  const auto free = nb::call_guard<nb::gil_scoped_release>();
  module.def("norm", &norm, nb::kw_only(), "kernels"_a, "int8"_a, "x"_a, "weight"_a, "size"_a, "epsilon"_a, "out"_a,
             "scale"_a, free);
  module.def("convert", &convert, nb::kw_only(), "kernels"_a, "int8"_a, "x"_a, "size"_a, "out"_a, "scale"_a, free);
  module.def("rotate", &rotate, nb::kw_only(), "kernels"_a, "mixed"_a, "heads"_a, "query_norm"_a, "key_norm"_a,
             "epsilon"_a, "cosines"_a, "sines"_a, "scale"_a, "cache"_a, "block"_a, "slot"_a, "queries"_a, free);
  module.def("largest", &largest, nb::kw_only(), "kernels"_a, "pool"_a.none(), "values"_a, "stride"_a, "rows"_a, "count"_a, free);
  module.def("sample", &sample, nb::kw_only(), "kernels"_a, "pool"_a.none(), "logits"_a, "stride"_a, "count"_a,
             "rules"_a, free);
}

}  // namespace headway
