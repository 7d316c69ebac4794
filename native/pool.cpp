#include "pool.h"

#include <chrono>

#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace headway {
namespace {

// How long a thread looks for work before it lets others have the processor at each look, and before it sleeps. A step
// follows the last one within 2 ms while anybody is served; waking a thread for it would cost more than a barrier does
// in all of the step.
constexpr std::chrono::microseconds SPIN{50};
constexpr std::chrono::microseconds AWAKE{2000};
constexpr int LOOKS = 32;  // between two looks at the clock

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void stay_on(int cpu) {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);  // where it is not allowed, the thread runs anywhere
#else
  (void)cpu;
#endif
}

// Until `word` is no longer `old`.
void wait(const std::atomic<std::uint32_t>& word, std::uint32_t old) {
  const auto began = std::chrono::steady_clock::now();
  auto waited = began - began;
  do {
    for (int look = 0; look < LOOKS; ++look) {
      if (word.load(std::memory_order_acquire) != old) return;
      pause();
    }
    if (waited > SPIN) std::this_thread::yield();
    waited = std::chrono::steady_clock::now() - began;
  } while (waited < AWAKE);
  word.wait(old, std::memory_order_acquire);
}

}  // namespace

Pool::Pool(int threads, const std::vector<int>& cpus) : threads_(threads), counters_(new Counter[threads]) {
  for (int index = 1; index < threads; ++index) {
    const int cpu = std::size_t(index) < cpus.size() ? cpus[index] : -1;
    team_.emplace_back([this, index, cpu] { serve(index, cpu); });
  }
}

Pool::~Pool() {
  stopping_ = true;
  region_.fetch_add(1, std::memory_order_release);
  region_.notify_all();
  for (std::thread& each : team_) each.join();
}

void Pool::start(Call call, void* work) {
  call_ = call;
  work_ = work;
  region_.fetch_add(1, std::memory_order_release);
  if (threads_ > 1) region_.notify_all();
  Worker worker(*this, 0);
  call(work, worker);
  barrier();
}

void Pool::serve(int index, int cpu) {
  if (cpu >= 0) stay_on(cpu);
  Worker worker(*this, index);
  for (std::uint32_t region = 0;; ++region) {
    wait(region_, region);
    if (stopping_) return;
    call_(work_, worker);
    barrier();
  }
}

void Pool::barrier() {
  const std::uint32_t passed = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads_) {
    wait(passed_, passed);
    return;
  }
  // The last one prepares what comes next, before the others are let go.
  arrived_.store(0, std::memory_order_relaxed);
  for (int index = 0; index < threads_; ++index) counters_[index].taken.store(0, std::memory_order_relaxed);
  passed_.fetch_add(1, std::memory_order_release);
  if (threads_ > 1) passed_.notify_all();
}

}  // namespace headway
