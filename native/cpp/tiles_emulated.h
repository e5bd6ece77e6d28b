// AMX's tiles as loops, to test the code around them where there are none.

#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace portabert {
namespace {

class EmulatedTiles {
 public:
  static void begin() {}
  static void end() {}

  template <int Tile>
  static void zero() {
    std::memset(tile(Tile), 0, kTileBytes);
  }
  template <int Tile>
  static void load(const void* from, std::int64_t stride) {
    copy(tile(Tile), kRowBytes, static_cast<const char*>(from), stride);
  }
  template <int Tile>
  static void store(void* to, std::int64_t stride) {
    copy(static_cast<char*>(to), stride, tile(Tile), kRowBytes);
  }
  template <int Sums, int Rows, int Columns>
  static void dot_int8() {
    dot_int8(tile(Sums), tile(Rows), tile(Columns));
  }
  template <int Sums, int Rows, int Columns>
  static void dot_bf16() {
    dot_bf16(tile(Sums), tile(Rows), tile(Columns));
  }

 private:
  static constexpr int kRows = 16, kRowBytes = 64, kTileBytes = kRows * kRowBytes;

  static char* tile(int number) {
    alignas(64) static thread_local char tiles[8][kTileBytes];
    return tiles[number];
  }
  static void copy(char* to, std::int64_t to_stride, const char* from, std::int64_t from_stride) {
    for (int row = 0; row < kRows; ++row) std::memcpy(to + row * to_stride, from + row * from_stride, kRowBytes);
  }
  template <class Number>
  static Number read(const char* from) {
    Number value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static float bf16(const char* from) { return std::bit_cast<float>(std::uint32_t{read<std::uint16_t>(from)} << 16); }

  // function(row, column, sum) gives the new sum.
  template <class Number, class Function>
  static void each_sum(char* sums, Function function) {
    for (int i = 0; i < kRows * kLanes; ++i) {
      const Number sum = function(i / kLanes, i % kLanes, read<Number>(sums + 4 * i));
      std::memcpy(sums + 4 * i, &sum, sizeof sum);
    }
  }
  __attribute__((noinline)) static void dot_int8(char* sums, const char* rows, const char* columns) {
    each_sum<std::int32_t>(sums, [&](int row, int column, std::int32_t sum) {
      for (int k = 0; k < kRowBytes; ++k)
        sum += read<std::uint8_t>(rows + row * kRowBytes + k) * read<std::int8_t>(columns + k / 4 * kRowBytes + 4 * column + k % 4);
      return sum;
    });
  }
  __attribute__((noinline)) static void dot_bf16(char* sums, const char* rows, const char* columns) {
    each_sum<float>(sums, [&](int row, int column, float sum) {
      float both[2] = {};
      for (int k = 0; k < kSummed; ++k)
        both[k % 2] = std::fma(bf16(rows + row * kRowBytes + 2 * k), bf16(columns + k / 2 * kRowBytes + 4 * column + 2 * (k % 2)), both[k % 2]);
      return sum + (both[0] + both[1]);
    });
  }
};

}  // namespace
}  // namespace portabert
