#include <nanobind/stl/vector.h>

#include "bind.h"
#include "pool.h"
#include "tests/pool_exercise.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace headway {

void bind_pool(nb::module_& module) {
  nb::class_<Pool>(module, "Pool")
      .def(nb::init<int, const std::vector<int>&>(), "threads"_a, "cpus"_a)
      .def_prop_ro("threads", &Pool::threads)
      .def("exercise", &exercise, "regions"_a, "barriers"_a, "pieces"_a, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace headway
