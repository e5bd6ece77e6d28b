// AMX's tiles. Their numbers must be literals: 0 to 3 hold sums, 4 and 5 rows, 6 and 7 weights.

#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels.h"

namespace portabert {
namespace {

struct AmxTiles {
  static constexpr int kRows = 16, kRowBytes = 64;

  // All eight tiles have 16 rows of 64 bytes.
  static void begin() {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    _tile_loadconfig(&config);
  }
  static void end() { _tile_release(); }

  template <int Groups, int Panels>
  static void zero() {
    _tile_zero(0);
    if constexpr (Groups * Panels > 1) _tile_zero(1);
    if constexpr (Groups * Panels > 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }

  template <int Groups, int Panels>
  static void step(const std::uint8_t* bytes, std::int64_t byte_stride, const std::int8_t* weights, std::int64_t panel_bytes) {
    static_assert((Groups == 2 && Panels <= 2) || (Groups == 1 && (Panels <= 2 || Panels == 4)));
    _tile_loadd(4, bytes, byte_stride);
    _tile_loadd(6, weights, kRowBytes);
    _tile_dpbusd(0, 4, 6);
    if constexpr (Panels > 1) {
      _tile_loadd(7, weights + panel_bytes, kRowBytes);
      _tile_dpbusd(1, 4, 7);
    }
    if constexpr (Panels == 4) {
      _tile_loadd(6, weights + 2 * panel_bytes, kRowBytes);
      _tile_dpbusd(2, 4, 6);
      _tile_loadd(7, weights + 3 * panel_bytes, kRowBytes);
      _tile_dpbusd(3, 4, 7);
    }
    if constexpr (Groups == 2) {
      _tile_loadd(5, bytes + kRows * byte_stride, byte_stride);
      if constexpr (Panels == 1) _tile_dpbusd(1, 5, 6);
      if constexpr (Panels == 2) {
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
      }
    }
  }

  template <int Groups, int Panels>
  static void store(std::int32_t* to) {
    constexpr std::int64_t stride = Panels * kRowBytes;
    constexpr int group = kRows * Panels * kLanes;
    _tile_stored(0, to, stride);
    if constexpr (Groups == 2 && Panels == 1) _tile_stored(1, to + group, stride);
    if constexpr (Panels > 1) _tile_stored(1, to + kLanes, stride);
    if constexpr (Panels == 4) {
      _tile_stored(2, to + 2 * kLanes, stride);
      _tile_stored(3, to + 3 * kLanes, stride);
    }
    if constexpr (Groups == 2 && Panels == 2) {
      _tile_stored(2, to + group, stride);
      _tile_stored(3, to + group + kLanes, stride);
    }
  }
};

}  // namespace
}  // namespace portabert
