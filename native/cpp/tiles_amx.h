// AMX's eight tiles, by number. The compilers' own intrinsics want literals for numbers; these take constants.

#pragma once

#include <cstdint>

#include "kernels.h"

namespace portabert {
namespace {

struct AmxTiles {
  // All tiles have 16 rows of 64 bytes.
  static void begin() {
    static constexpr struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
  }
  static void end() { __asm__ volatile("tilerelease"); }

  template <int Tile>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(Tile));
  }
  // Rows are `stride` bytes apart.
  template <int Tile>
  static void load(const void* from, std::int64_t stride) {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(Tile), "r"(from), "r"(stride) : "memory");
  }
  template <int Tile>
  static void store(void* to, std::int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(Tile), "r"(to), "r"(stride) : "memory");
  }
  // sums += rows (16, 64 uint8) · columns (16, 16 · 4 int8)
  template <int Sums, int Rows, int Columns>
  static void dot_int8() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(Rows), "i"(Columns));
  }
  // sums += rows (16, 32 bf16) · columns (16, 16 · 2 bf16), in the order of kSummed
  template <int Sums, int Rows, int Columns>
  static void dot_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(Rows), "i"(Columns));
  }
};

}  // namespace
}  // namespace portabert
