// What is done to one row: norms, conversions, rotation, the choice of a token.
#include <nanobind/stl/string.h>

#include <vector>

#include "bind.h"

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

int largest(const std::string& name, Address values, int count) {
  return kernels_named(name).largest(at<const float>(values), count);
}

int sample(const std::string& name, Address logits, int count, float temperature, int top_k, double top_p, float min_p,
           double number) {
  thread_local std::vector<float> scratch;
  if (scratch.size() < 2 * std::size_t(count)) scratch.resize(2 * std::size_t(count));
  return kernels_named(name).sample(at<const float>(logits), count, {temperature, top_k, top_p, min_p}, number,
                                    scratch.data());
}

}  // namespace

void bind_rows(nb::module_& module) {
  const auto free = nb::call_guard<nb::gil_scoped_release>();
  module.def("norm", &norm, nb::kw_only(), "kernels"_a, "int8"_a, "x"_a, "weight"_a, "size"_a, "epsilon"_a, "out"_a,
             "scale"_a, free);
  module.def("convert", &convert, nb::kw_only(), "kernels"_a, "int8"_a, "x"_a, "size"_a, "out"_a, "scale"_a, free);
  module.def("rotate", &rotate, nb::kw_only(), "kernels"_a, "mixed"_a, "heads"_a, "query_norm"_a, "key_norm"_a,
             "epsilon"_a, "cosines"_a, "sines"_a, "scale"_a, "cache"_a, "block"_a, "slot"_a, "queries"_a, free);
  module.def("largest", &largest, nb::kw_only(), "kernels"_a, "values"_a, "count"_a, free);
  module.def("sample", &sample, nb::kw_only(), "kernels"_a, "logits"_a, "count"_a, "temperature"_a, "top_k"_a,
             "top_p"_a, "min_p"_a, "number"_a, free);
}

}  // namespace headway
