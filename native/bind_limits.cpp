#include <cstring>
#include <vector>

#include <nanobind/stl/string.h>

#include "bind.h"
#include "limits.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace headway {
namespace {

// Each thread a stretch of its own.
void read(Pool& pool, Address data, std::size_t bytes) {
  pool.run([&](Worker& worker) {
    const std::size_t each = bytes / worker.threads() / 64 * 64;
    volatile unsigned long long sum = read_all(at<const char>(data) + each * worker.index(), each);
    (void)sum;
  });
}

// All threads; returns the operations done, 0 where the best kernels use no such instruction.
double dot(Pool& pool, bool int8, long rounds) {
#ifdef HEADWAY_X86
  if (choose_kernels("avx512") == nullptr) return 0;
  std::vector<double> done(pool.threads());
  pool.run([&](Worker& worker) {
    float out;
    done[worker.index()] = avx512::dot_all(int8 ? Format::INT8 : Format::BF16, rounds, &out);
  });
  double total = 0;
  for (const double each : done) total += each;
  return total;
#else
  return 0;
#endif
}

}  // namespace

void bind_limits(nb::module_& module) {
  module.def("read", &read, "pool"_a, "data"_a, "bytes"_a, nb::call_guard<nb::gil_scoped_release>());
  module.def("dot", &dot, "pool"_a, "int8"_a, "rounds"_a, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace headway
