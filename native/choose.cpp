// Which kernels: by what the processor can do, or by name.
#include <cstdlib>
#include <cstring>

#include "kernels.h"
#include "tables.h"

namespace headway {
namespace {

struct Tables {
  Kernels portable{}, avx2{}, avx512{};

  Tables() {
    portable.name = "portable";
    headway::portable::add_linear(portable);
    headway::portable::add_rows(portable);
    headway::portable::add_attention(portable);
    headway::portable::add_sampling(portable);
#ifdef HEADWAY_X86
    avx2 = portable;
    avx2.name = "avx2";
    headway::avx2::add_linear(avx2);
    headway::avx2::add_rows(avx2);
    headway::avx2::add_attention(avx2);
    headway::avx2::add_sampling(avx2);
    avx512 = avx2;
    avx512.name = "avx512";
    headway::avx512::add_linear(avx512);
    headway::avx512::add_rows(avx512);
    headway::avx512::add_attention(avx512);
    headway::avx512::add_sampling(avx512);
#endif
  }
};

bool has_avx2() {
#ifdef HEADWAY_X86
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#ifdef HEADWAY_X86
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace

const Kernels* choose_kernels(const char* name) {
  static const Tables tables;
  if (name == nullptr) name = std::getenv("HEADWAY_KERNELS");
  const bool any = name == nullptr || *name == '\0';
  if (has_avx512() && (any || std::strcmp(name, "avx512") == 0)) return &tables.avx512;
  if (has_avx2() && (any || std::strcmp(name, "avx2") == 0)) return &tables.avx2;
  if (any || std::strcmp(name, "portable") == 0) return &tables.portable;
  return nullptr;
}

}  // namespace headway
