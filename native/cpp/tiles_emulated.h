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
    for (int row = 0; row < kRows; ++row) std::memcpy(tile(Tile) + row * kRowBytes, static_cast<const char*>(from) + row * stride, kRowBytes);
  }
  template <int Tile>
  static void store(void* to, std::int64_t stride) {
    for (int row = 0; row < kRows; ++row) std::memcpy(static_cast<char*>(to) + row * stride, tile(Tile) + row * kRowBytes, kRowBytes);
  }
  template <int Sums, int Rows, int Columns>
  static void dot_int8() {
    each_sum<std::int32_t, Sums>([](int row, int column, std::int32_t sum) {
      for (int k = 0; k < kRowBytes; ++k)
        sum += std::bit_cast<std::uint8_t>(tile(Rows)[row * kRowBytes + k]) * std::bit_cast<std::int8_t>(tile(Columns)[k / 4 * kRowBytes + 4 * column + k % 4]);
      return sum;
    });
  }
  template <int Sums, int Rows, int Columns>
  static void dot_bf16() {
    each_sum<float, Sums>([](int row, int column, float sum) {
      float both[2] = {};
      for (int k = 0; k < kSummed; ++k)
        both[k % 2] = std::fma(bf16(tile(Rows) + row * kRowBytes + 2 * k), bf16(tile(Columns) + k / 2 * kRowBytes + 4 * column + 2 * (k % 2)), both[k % 2]);
      return sum + (both[0] + both[1]);
    });
  }

 private:
  static constexpr int kRows = 16, kRowBytes = 64, kTileBytes = kRows * kRowBytes;

  static char* tile(int number) {
    alignas(64) static thread_local char tiles[8][kTileBytes];
    return tiles[number];
  }
  static float bf16(const char* from) {
    std::uint16_t half;
    std::memcpy(&half, from, sizeof half);
    return std::bit_cast<float>(std::uint32_t{half} << 16);
  }
  template <class Number, int Sums, class Function>
  static void each_sum(Function function) {
    for (int row = 0; row < kRows; ++row)
      for (int column = 0; column < kLanes; ++column) {
        char* at = tile(Sums) + row * kRowBytes + 4 * column;
        Number sum;
        std::memcpy(&sum, at, sizeof sum);
        sum = function(row, column, sum);
        std::memcpy(at, &sum, sizeof sum);
      }
  }
};

}  // namespace
}  // namespace portabert
