#include "limits.h"

namespace headway {

unsigned long long read_all(const void* data, std::size_t bytes) {
  constexpr int STREAMS = 8;
  const auto* words = static_cast<const unsigned long long*>(data);
  unsigned long long sums[STREAMS] = {};
  for (std::size_t word = 0; word + STREAMS <= bytes / sizeof *words; word += STREAMS)
    for (int stream = 0; stream < STREAMS; ++stream) sums[stream] += words[word + stream];
  unsigned long long total = 0;
  for (const unsigned long long sum : sums) total += sum;
  return total;
}

}  // namespace headway
