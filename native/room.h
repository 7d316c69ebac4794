// Memory that grows with the largest step, in large pages where it is large and the system has them: finding small ones
// takes time beside reading them.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace headway {

template <class T>
struct LargePages {
  using value_type = T;
  static constexpr std::size_t PAGE = std::size_t{2} << 20;

  LargePages() = default;
  template <class U>
  LargePages(const LargePages<U>&) {}

  T* allocate(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    void* const memory = ::operator new(bytes, alignment(count));
#ifdef __linux__
    if (bytes >= PAGE) madvise(memory, bytes, MADV_HUGEPAGE);  // where there are none, small ones will do
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t count) { ::operator delete(memory, alignment(count)); }
  static std::align_val_t alignment(std::size_t count) {
    return std::align_val_t{count * sizeof(T) >= PAGE ? PAGE : std::size_t{64}};
  }

  friend bool operator==(const LargePages&, const LargePages&) { return true; }
};

template <class T>
using Room = std::vector<T, LargePages<T>>;

}  // namespace headway
