// Work for a pool that finds out whether it keeps its promises.
#pragma once

#include <atomic>
#include <vector>

#include "../pool.h"

namespace headway {

// In each of `regions`, `barriers` times: every piece adds one to its own count, and after the barrier every thread
// looks whether all have been counted as often as they should. Counts are plain numbers, so that a thread sanitizer sees
// whatever is not ordered. Returns how many looks found something wrong.
inline int exercise(Pool& pool, int regions, int barriers, int pieces) {
  std::vector<int> counts(pieces);
  std::atomic<int> wrong{0};
  int rounds = 0;
  for (int region = 0; region < regions; ++region) {
    std::vector<int> ran(pool.threads());
    pool.run([&](Worker& worker) {
      ++ran[worker.index()];
      for (int round = 1; round <= barriers; ++round) {
        const int chunk = 1 + (region + round) % 3;
        worker.share(pieces, chunk, [&](int first, int last) {
          if (last - first > chunk) ++wrong;
          for (int piece = first; piece < last; ++piece) ++counts[piece];
        });
        worker.barrier();
        for (const int count : counts)
          if (count != rounds + round) ++wrong;
        worker.barrier();
      }
    });
    rounds += barriers;
    for (const int times : ran)
      if (times != 1) ++wrong;
    for (const int count : counts)
      if (count != rounds) ++wrong;
  }
  return wrong;
}

}  // namespace headway
