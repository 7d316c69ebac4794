// The decoder for Python. Addresses are plain integers: who calls keeps what is behind them alive, and has checked it.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind.h"
#include "decoder.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace headway {
namespace {

void run(Decoder& decoder, Address tokens, int count, const std::vector<Span>& spans,
         const std::vector<std::int32_t>& picked, Address logits) {
  nb::gil_scoped_release release;
  decoder.run({at<const std::int32_t>(tokens), count, spans.data(), int(spans.size()), picked.data(),
               int(picked.size())},
              at<float>(logits));
}

}  // namespace

// After what its parts are bound by: linear layers, caches and spans.
void bind_decoder(nb::module_& module) {
  nb::class_<Layer>(module, "Layer")
      .def(
          "__init__",
          [](Layer* self, Address attention_norm, const Linear& qkv, Address query_norm, Address key_norm,
             const Linear& output, Address feed_forward_norm, const Linear& gate_up, const Linear& down, int window,
             const Cache& cache) {
            new (self) Layer{at<const float>(attention_norm),
                             qkv,
                             at<const float>(query_norm),
                             at<const float>(key_norm),
                             output,
                             at<const float>(feed_forward_norm),
                             gate_up,
                             down,
                             window,
                             cache};
          },
          nb::kw_only(), "attention_norm"_a, "qkv"_a, "query_norm"_a, "key_norm"_a, "output"_a,
          "feed_forward_norm"_a, "gate_up"_a, "down"_a, "window"_a, "cache"_a);
  nb::class_<Model>(module, "Model")
      .def(
          "__init__",
          [](Model* self, bool int8, int hidden, int heads, int kv_heads, int head_dim, int intermediate,
             int vocabulary, float epsilon, Address frequencies, float rotation_scale, Address embedding,
             std::vector<Layer> layers, Address final_norm, const Linear& head) {
            new (self) Model{int8 ? Format::INT8 : Format::BF16,
                             hidden,
                             heads,
                             kv_heads,
                             head_dim,
                             intermediate,
                             vocabulary,
                             epsilon,
                             at<const float>(frequencies),
                             rotation_scale,
                             at<const bf16>(embedding),
                             std::move(layers),
                             at<const float>(final_norm),
                             head};
          },
          nb::kw_only(), "int8"_a, "hidden"_a, "heads"_a, "kv_heads"_a, "head_dim"_a, "intermediate"_a,
          "vocabulary"_a, "epsilon"_a, "frequencies"_a, "rotation_scale"_a, "embedding"_a, "layers"_a,
          "final_norm"_a, "head"_a);
  nb::class_<Decoder>(module, "Decoder")
      .def(
          "__init__",
          [](Decoder* self, const std::string& kernels, Pool& pool, const Model& model) {
            new (self) Decoder(kernels_named(kernels), pool, model);
          },
          nb::kw_only(), "kernels"_a, "pool"_a, "model"_a, nb::keep_alive<1, 3>())
      .def("run", &run, nb::kw_only(), "tokens"_a, "count"_a, "spans"_a, "picked"_a, "logits"_a);
}

}  // namespace headway
