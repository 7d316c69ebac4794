#include <nanobind/stl/string.h>

#include "bind.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace headway {
namespace {

int panels(int outputs) { return (outputs + PANEL - 1) / PANEL; }

void pack(const std::string& name, Pool& pool, bool int8, Address weight, int outputs, int inputs, Address data,
          Address scales, Address sums) {
  const Kernels& kernels = kernels_named(name);
  pool.run([&](Worker& worker) {
    worker.share(panels(outputs), 1, [&](int first, int last) {
      if (int8)
        kernels.pack_int8(at<const bf16>(weight), outputs, inputs, at<void>(data), at<float>(scales),
                          at<std::int32_t>(sums), first, last);
      else
        kernels.pack_bf16(at<const bf16>(weight), outputs, inputs, at<void>(data), first, last);
    });
  });
}

void multiply(const std::string& name, Pool& pool, const Linear& linear, Address rows, std::ptrdiff_t stride,
              Address scales, int count, int chunk, int into, Address out, std::ptrdiff_t out_stride) {
  const Kernels& kernels = kernels_named(name);
  const Rows given{at<const void>(rows), stride, at<const float>(scales)};
  const Output output{Into(into), at<void>(out), out_stride};
  pool.run([&](Worker& worker) {
    worker.share(panels(linear.outputs), chunk,
                 [&](int first, int last) { kernels.multiply(linear, given, count, first, last, output); });
  });
}

}  // namespace

void bind_linear(nb::module_& module) {
  module.def("kernels", [](const std::string& name) { return kernels_named(name).name; }, "name"_a);
  nb::class_<Linear>(module, "Linear")
      .def(
          "__init__",
          [](Linear* self, bool int8, int outputs, int inputs, Address data, Address scales, Address sums,
             Address bias) {
            new (self) Linear{int8 ? Format::INT8 : Format::BF16, outputs, inputs, at<const void>(data),
                              at<const float>(scales), at<const std::int32_t>(sums), at<const float>(bias)};
          },
          nb::kw_only(), "int8"_a, "outputs"_a, "inputs"_a, "data"_a, "scales"_a, "sums"_a, "bias"_a);
  module.def("pack", &pack, nb::kw_only(), "kernels"_a, "pool"_a, "int8"_a, "weight"_a, "outputs"_a, "inputs"_a,
             "data"_a, "scales"_a, "sums"_a, nb::call_guard<nb::gil_scoped_release>());
  module.def("multiply", &multiply, nb::kw_only(), "kernels"_a, "pool"_a, "linear"_a, "rows"_a, "stride"_a, "scales"_a,
             "count"_a, "chunk"_a, "into"_a, "out"_a, "out_stride"_a, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace headway
