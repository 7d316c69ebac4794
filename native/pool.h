// One team of threads for everything that the engine computes. They start once and live as long as the pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace headway {

class Worker;

class Pool {
 public:
  // `threads` in all, the caller of run() among them as number 0. Thread i > 0 stays on processor cpus[i], if there is
  // one; the caller stays where it is, since threads that it starts later would inherit its place.
  explicit Pool(int threads, const std::vector<int>& cpus = {});
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // A parallel region: work(worker) on every thread at once. Returns when all are done, and what they wrote is then
  // seen by the caller. One region at a time, none within another; `work` must not throw.
  template <class Work>
  void run(Work&& work) {
    start([](void* w, Worker& worker) { (*static_cast<std::remove_reference_t<Work>*>(w))(worker); },
          const_cast<void*>(static_cast<const void*>(&work)));
  }

 private:
  friend class Worker;
  using Call = void (*)(void* work, Worker& worker);

  struct alignas(64) Counter {
    std::atomic<int> taken{0};
  };

  void start(Call call, void* work);
  void serve(int index, int cpu);
  void barrier();

  const int threads_;
  Call call_ = nullptr;
  void* work_ = nullptr;
  bool stopping_ = false;
  alignas(64) std::atomic<std::uint32_t> region_{0};  // how many have begun
  alignas(64) std::atomic<int> arrived_{0};           // at the barrier
  alignas(64) std::atomic<std::uint32_t> passed_{0};  // how many barriers were passed
  std::unique_ptr<Counter[]> counters_;               // of share(), one a thread; zero after each barrier
  std::vector<std::thread> team_;
};

// One thread in a parallel region.
class Worker {
 public:
  int index() const { return index_; }
  int threads() const { return pool_.threads_; }

  // Nobody goes on before all have come here. What was written before is seen after by all.
  void barrier() { pool_.barrier(); }

  // Splits 0 .. count - 1 among all threads, which call this alike: body(first, last) for at most `chunk` at a time.
  // Each thread starts on a stretch of its own, in order, and then helps the others. Once between two barriers.
  template <class Body>
  void share(int count, int chunk, Body&& body) {
    const int threads = pool_.threads_;
    for (int turn = 0; turn < threads; ++turn) {
      const std::int64_t owner = (index_ + turn) % threads;
      const int begin = int(count * owner / threads), end = int(count * (owner + 1) / threads);
      std::atomic<int>& taken = pool_.counters_[owner].taken;
      while (true) {
        const int first = begin + taken.fetch_add(chunk, std::memory_order_relaxed);
        if (first >= end) break;
        body(first, std::min(first + chunk, end));
      }
    }
  }

 private:
  friend class Pool;
  Worker(Pool& pool, int index) : pool_(pool), index_(index) {}

  Pool& pool_;
  const int index_;
};

}  // namespace headway
