// AMX's tiles as loops, to test the code around them where there are none.

#pragma once

#include <cstdint>

#include "kernels.h"

namespace portabert {
namespace {

struct EmulatedTiles {
  static constexpr int kRows = 16;

  static void begin() {}
  static void end() {}

  template <int Groups, int Panels>
  static void zero() {
    static_assert(Groups * Panels <= 4);
    for (int i = 0; i < Groups * Panels * kRows * kLanes; ++i) (&sums()[0][0][0])[i] = 0;
  }

  template <int Groups, int Panels>
  static void step(const std::uint8_t* bytes, std::int64_t byte_stride, const std::int8_t* weights, std::int64_t panel_bytes) {
    for (int group = 0; group < Groups; ++group)
      for (int p = 0; p < Panels; ++p)
        for (int row = 0; row < kRows; ++row)
          for (int k = 0; k < kDepth; ++k)
            for (int column = 0; column < kLanes; ++column)
              sums()[group * Panels + p][row][column] += bytes[(group * kRows + row) * byte_stride + k] *
                                                         weights[p * panel_bytes + (k / 4 * kLanes + column) * 4 + k % 4];
  }

  template <int Groups, int Panels>
  static void store(std::int32_t* to) {
    for (int group = 0; group < Groups; ++group)
      for (int row = 0; row < kRows; ++row)
        for (int p = 0; p < Panels; ++p)
          for (int column = 0; column < kLanes; ++column) *to++ = sums()[group * Panels + p][row][column];
  }

 private:
  using Sums = std::int32_t[4][kRows][kLanes];
  static Sums& sums() {
    static thread_local Sums tiles;
    return tiles;
  }
};

}  // namespace
}  // namespace portabert
