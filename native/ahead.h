// What a product fetches from memory before it is needed.
#pragma once

#include <cstddef>

namespace headway {
namespace {

constexpr std::size_t FETCH_BYTES = 64;        // a cache line
constexpr std::size_t FETCH_STRETCH = 512;     // of a panel, to which the fetches are counted out
constexpr std::size_t STREAM_DISTANCE = 4096;  // how far ahead a stream is fetched
constexpr int STREAM_ROWS = 4;                 // up to so many rows, weights are a stream

// `lines` cache lines from `from` on for each FETCH_STRETCH of the panel that is multiplied. `near`: into the first
// cache, where they are needed soon; else into the second.
struct Ahead {
  const char* from;
  int lines;
  bool near;
};

// Weights that meet few rows are used up faster than memory gives them: a stream, best fetched at a short distance,
// into the first cache. With more rows, a panel takes longer to be multiplied than to be read, and the next one (null:
// there is none) is fetched into the second cache meanwhile; of several tiles that share a panel, the first ones fetch
// a part each.
inline Ahead look_ahead(const char* panel, const char* next, std::size_t panel_bytes, int rows, int tile, int tiles) {
  constexpr int LINES = FETCH_STRETCH / FETCH_BYTES;
  if (rows <= STREAM_ROWS) return {panel + STREAM_DISTANCE, LINES, true};
  const int lines = (LINES + tiles - 1) / tiles;
  const std::size_t begin = panel_bytes / FETCH_STRETCH * lines * FETCH_BYTES * tile;
  if (next == nullptr || begin >= panel_bytes) return {panel, 0, false};
  return {next + begin, lines, false};
}

}  // namespace
}  // namespace headway
