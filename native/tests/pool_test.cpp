// The pool without Python around it, for the thread sanitizer: 0 if all is well.
#include "pool_exercise.h"

#include <chrono>
#include <cstdio>

int main() {
  int wrong = 0;
  for (const int threads : {1, 2, 3, 7}) {
    headway::Pool pool(threads);
    wrong += headway::exercise(pool, 50, 20, 23);
    for (int pause = 0; pause < 5; ++pause) {  // long enough for the others to fall asleep
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      wrong += headway::exercise(pool, 1, 1, 5);
    }
  }
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
