// What the files that bind something to Python share. Addresses are plain integers: who calls keeps what is behind them
// alive, and has checked it.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace headway {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// "" is the best; ValueError for one that this processor doesn't have.
inline const Kernels& kernels_named(const std::string& name) {
  const Kernels* const kernels = choose_kernels(name.empty() ? nullptr : name.c_str());
  if (kernels == nullptr) throw std::invalid_argument("there are no kernels called '" + name + "' on this processor");
  return *kernels;
}

}  // namespace headway
