#include <nanobind/nanobind.h>

namespace headway {
void bind_pool(nanobind::module_& module);
void bind_linear(nanobind::module_& module);
void bind_limits(nanobind::module_& module);
void bind_rows(nanobind::module_& module);
void bind_attention(nanobind::module_& module);
void bind_decoder(nanobind::module_& module);
}  // namespace headway

NB_MODULE(_native, module) {
  headway::bind_pool(module);
  headway::bind_linear(module);
  headway::bind_limits(module);
  headway::bind_rows(module);
  headway::bind_attention(module);
  headway::bind_decoder(module);
}
