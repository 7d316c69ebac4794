#!/usr/bin/env bash
# The tests of the compiled kernels under the address and undefined-behaviour sanitizers, and the thread pool under the
# thread sanitizer. Needs .venv (`make test` sets it up). Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
export PATH=$PWD/.venv/bin:$PATH

build() { # folder, sanitizers, target
  cmake -S native/cmake -B "$1" -DPython_EXECUTABLE="$python" -DHEADWAY_SANITIZE="$2" \
    -DHEADWAY_MODULE_DIR="$PWD/build/sanitize/package/headway/engine" >/dev/null
  cmake --build "$1" --target "$3" -j "$(nproc)"
}

build build/sanitize/threads thread pool_test
build/sanitize/threads/pool_test

# The package beside the module built here, which must not replace the one in use.
rm -rf build/sanitize/package
mkdir -p build/sanitize/package
cp -r src/headway build/sanitize/package/
rm -f build/sanitize/package/headway/engine/_native.*.so
build build/sanitize/address address,undefined _native

# Python itself leaks on purpose, and what it allocates must not hide in its own arenas. A finding ends the process, and
# with it all output that pytest had captured: nothing is.
LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
  UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc PYTHONPATH=build/sanitize/package OMP_NUM_THREADS=1 \
  "$python" -m pytest tests/engine/native -q --capture=no --deselect tests/engine/native/test_build.py "$@"
