// 16 floats, one after the other: what all other lanes must agree with, to the bit.

#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace portabert {
namespace {

struct Scalar {
  static constexpr const char* name = "scalar";
  static constexpr int kRows = 2, kPanels = 1;       // of a tile of products
  static constexpr int kQueries = 2, kKeyLanes = 1;  // of a tile of attention's
  static constexpr int kAbreast = 1;

  struct Floats {
    float lane[kLanes];
  };
  struct Ints {
    std::int32_t lane[kLanes];
  };

  template <class F>
  static Floats each(F function) {
    Floats result;
    for (int i = 0; i < kLanes; ++i) result.lane[i] = function(i);
    return result;
  }

  static Floats load(const float* from) {
    return each([&](int i) { return from[i]; });
  }
  static void store(float* to, Floats a) { std::memcpy(to, a.lane, sizeof a.lane); }
  static Floats broadcast(float value) {
    return each([&](int) { return value; });
  }
  static Floats add(Floats a, Floats b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Floats subtract(Floats a, Floats b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static Floats multiply(Floats a, Floats b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static Floats divide(Floats a, Floats b) {
    return each([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static Floats multiply_add(Floats a, Floats b, Floats c) {
    return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static Floats larger(Floats a, Floats b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Floats smaller(Floats a, Floats b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Floats magnitude(Floats a) {
    return each([&](int i) { return std::fabs(a.lane[i]); });
  }
  static Floats round(Floats a) {
    return each([&](int i) { return std::nearbyint(a.lane[i]); });
  }
  // 2^a of whole numbers from −126 to 127.
  static Floats power_of_two(Floats a) {
    return each([&](int i) { return std::bit_cast<float>((static_cast<std::int32_t>(a.lane[i]) + 127) << 23); });
  }
  static float sum(Floats a) {
    for (int half = kLanes / 2; half; half /= 2)
      for (int i = 0; i < half; ++i) a.lane[i] += a.lane[i + half];
    return a.lane[0];
  }
  static float largest(Floats a) {
    float found = a.lane[0];
    for (int i = 1; i < kLanes; ++i) found = a.lane[i] > found ? a.lane[i] : found;
    return found;
  }
  static Floats from_int8(const std::int8_t* from) {
    return each([&](int i) { return static_cast<float>(from[i]); });
  }
  // Rounds to whole numbers, adds the zero point, and keeps what is between 0 and 255.
  static void store_bytes(std::uint8_t* to, Floats a, int zero_point) {
    for (int i = 0; i < kLanes; ++i) {
      const int value = static_cast<int>(std::nearbyint(a.lane[i])) + zero_point;
      to[i] = static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
    }
  }

  // The upper halves of floats, rounded to nearest, to even where two are as near.
  static void store_bf16(std::uint16_t* to, Floats a) {
    for (int i = 0; i < kLanes; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(a.lane[i]);
      to[i] = static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  }
  // Up to 16 rows of 16 pairs, of which there are `numbers` numbers, → (16 pairs, 16 rows); the rest is zero.
  static void transpose_pairs(const std::uint16_t* from, std::int64_t stride, int num_rows, int numbers, std::uint16_t* to) {
    for (int row = 0; row < kLanes; ++row)
      for (int i = 0; i < 2 * kLanes; ++i)
        to[i / 2 * 2 * kLanes + 2 * row + i % 2] = row < num_rows && i < numbers ? from[row * stride + i] : std::uint16_t{0};
  }
  // Two rows of 16 numbers, of zeros where there is none, → 16 pairs.
  static void zip(const std::uint16_t* even, const std::uint16_t* odd, std::uint16_t* to) {
    for (int i = 0; i < kLanes; ++i) {
      to[2 * i] = even ? even[i] : std::uint16_t{0};
      to[2 * i + 1] = odd ? odd[i] : std::uint16_t{0};
    }
  }
  static float widen(std::uint16_t half) { return std::bit_cast<float>(std::uint32_t{half} << 16); }
  static Floats from_bf16(const std::uint16_t* from) {
    return each([&](int i) { return widen(from[i]); });
  }
  using WeightPairs = const std::uint16_t*;
  struct Pair {
    float even, odd;
  };
  static WeightPairs load_weight_pairs(const std::uint16_t* from) { return from; }
  static Pair load_pair(const std::uint8_t* from) {
    std::uint16_t halves[2];
    std::memcpy(halves, from, sizeof halves);
    return {widen(halves[0]), widen(halves[1])};
  }
  static Floats dot_pairs(Floats sums, Pair pair, WeightPairs weights) {
    return each([&](int i) {
      return std::fma(pair.even, widen(weights[2 * i]), std::fma(pair.odd, widen(weights[2 * i + 1]), sums.lane[i]));
    });
  }

  static Floats to_floats(Ints a) {
    return each([&](int i) { return static_cast<float>(a.lane[i]); });
  }
  static Ints load_ints(const std::int32_t* from) {
    Ints result;
    std::memcpy(result.lane, from, sizeof result.lane);
    return result;
  }
  static void store_ints(std::int32_t* to, Ints a) { std::memcpy(to, a.lane, sizeof a.lane); }
  static constexpr int kByteShift = 0;  // what is taken off each byte before it is multiplied
  static Ints load_times(const std::int32_t* from, std::int32_t factor) {
    Ints result;
    for (int i = 0; i < kLanes; ++i) result.lane[i] = from[i] * factor;
    return result;
  }
  using Weights = const std::int8_t*;
  using Bytes = const std::uint8_t*;
  static Weights load_weights(const std::int8_t* from) { return from; }
  static Bytes load_bytes(const std::uint8_t* from) { return from; }
  static Ints dot(Ints sums, Bytes bytes, Weights weights) {
    for (int i = 0; i < kLanes; ++i)
      for (int j = 0; j < 4; ++j) sums.lane[i] += bytes[j] * weights[4 * i + j];
    return sums;
  }
};

}  // namespace
}  // namespace portabert
