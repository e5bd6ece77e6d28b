// 16 floats in four registers of NEON, and products of four bytes by SDOT.

#pragma once

#include <arm_neon.h>

#include "kernels.h"

namespace portabert {
namespace {

struct Neon {
  static constexpr const char* name = "neon-dotprod";
  static constexpr int kRows = 5, kPanels = 1;       // 20 of 32 registers are sums
  static constexpr int kQueries = 2, kKeyLanes = 1;  // so are 16, and 8 more, of attention
  static constexpr int kAbreast = 2;

  struct Floats {
    float32x4_t part[4];
  };
  struct Ints {
    int32x4_t part[4];
  };

  template <class F>
  static Floats each(F function) {
    return {{function(0), function(1), function(2), function(3)}};
  }

  static Floats load(const float* from) {
    return each([&](int i) { return vld1q_f32(from + 4 * i); });
  }
  static void store(float* to, Floats a) {
    for (int i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, a.part[i]);
  }
  static Floats broadcast(float value) {
    return each([&](int) { return vdupq_n_f32(value); });
  }
  static Floats add(Floats a, Floats b) {
    return each([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
  }
  static Floats subtract(Floats a, Floats b) {
    return each([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
  }
  static Floats multiply(Floats a, Floats b) {
    return each([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
  }
  static Floats divide(Floats a, Floats b) {
    return each([&](int i) { return vdivq_f32(a.part[i], b.part[i]); });
  }
  static Floats multiply_add(Floats a, Floats b, Floats c) {
    return each([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
  }
  static Floats larger(Floats a, Floats b) {
    return each([&](int i) { return vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
  }
  static Floats smaller(Floats a, Floats b) {
    return each([&](int i) { return vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
  }
  static Floats magnitude(Floats a) {
    return each([&](int i) { return vabsq_f32(a.part[i]); });
  }
  static Floats round(Floats a) {
    return each([&](int i) { return vrndnq_f32(a.part[i]); });
  }
  static Floats power_of_two(Floats a) {
    return each([&](int i) {
      const int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(a.part[i]), vdupq_n_s32(127));
      return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
    });
  }
  static float sum(Floats a) {
    const float32x4_t four = vaddq_f32(vaddq_f32(a.part[0], a.part[2]), vaddq_f32(a.part[1], a.part[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  static float largest(Floats a) {
    float lane[kLanes];
    store(lane, a);
    float found = lane[0];
    for (int i = 1; i < kLanes; ++i) found = lane[i] > found ? lane[i] : found;
    return found;
  }
  static Floats from_int8(const std::int8_t* from) {
    const int8x16_t bytes = vld1q_s8(from);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
  }
  static void store_bytes(std::uint8_t* to, Floats a, int zero_point) {
    int16x4_t part[4];
    for (int i = 0; i < 4; ++i) part[i] = vqmovn_s32(vaddq_s32(vcvtnq_s32_f32(a.part[i]), vdupq_n_s32(zero_point)));
    vst1q_u8(to, vcombine_u8(vqmovun_s16(vcombine_s16(part[0], part[1])), vqmovun_s16(vcombine_s16(part[2], part[3]))));
  }

  static void store_bf16(std::uint16_t* to, Floats a) {
    uint16x4_t part[4];
    for (int i = 0; i < 4; ++i) {
      const uint32x4_t bits = vreinterpretq_u32_f32(a.part[i]), even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
      part[i] = vshrn_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), even), 16);
    }
    vst1q_u16(to, vcombine_u16(part[0], part[1]));
    vst1q_u16(to + 8, vcombine_u16(part[2], part[3]));
  }
  static Floats from_bf16(const std::uint16_t* from) {
    return each([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from + 4 * i), 16)); });
  }
  struct WeightPairs {
    Floats even, odd;
  };
  struct Pair {
    float32x4_t even, odd;
  };
  static WeightPairs load_weight_pairs(const std::uint16_t* from) {
    WeightPairs pairs;
    for (int i = 0; i < 4; ++i) {
      const uint32x4_t both = vreinterpretq_u32_u16(vld1q_u16(from + 8 * i));
      pairs.even.part[i] = vreinterpretq_f32_u32(vshlq_n_u32(both, 16));
      pairs.odd.part[i] = vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000u)));
    }
    return pairs;
  }
  static Pair load_pair(const std::uint8_t* from) {
    std::uint32_t both;
    __builtin_memcpy(&both, from, sizeof both);
    return {vreinterpretq_f32_u32(vdupq_n_u32(both << 16)), vreinterpretq_f32_u32(vdupq_n_u32(both & 0xffff0000u))};
  }
  static Floats dot_pairs(Floats sums, Pair pair, const WeightPairs& weights) {
    return each([&](int i) {
      return vfmaq_f32(vfmaq_f32(sums.part[i], pair.odd, weights.odd.part[i]), pair.even, weights.even.part[i]);
    });
  }

  static Floats to_floats(Ints a) {
    return each([&](int i) { return vcvtq_f32_s32(a.part[i]); });
  }
  static Ints load_ints(const std::int32_t* from) {
    return {{vld1q_s32(from), vld1q_s32(from + 4), vld1q_s32(from + 8), vld1q_s32(from + 12)}};
  }
  static void store_ints(std::int32_t* to, Ints a) {
    for (int i = 0; i < 4; ++i) vst1q_s32(to + 4 * i, a.part[i]);
  }
  static constexpr int kByteShift = 128;  // SDOT multiplies signed bytes: they are read 128 lower, and the sums begin 128 · sum higher
  static Ints load_times(const std::int32_t* from, std::int32_t factor) {
    Ints result;
    for (int i = 0; i < 4; ++i) result.part[i] = vmulq_n_s32(vld1q_s32(from + 4 * i), factor);
    return result;
  }
  struct Weights {
    int8x16_t part[4];
  };
  using Bytes = int8x16_t;
  static Weights load_weights(const std::int8_t* from) {
    return {{vld1q_s8(from), vld1q_s8(from + 16), vld1q_s8(from + 32), vld1q_s8(from + 48)}};
  }
  static Bytes load_bytes(const std::uint8_t* from) {
    std::uint32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
  }
  static Ints dot(Ints sums, Bytes bytes, Weights weights) {
    for (int i = 0; i < 4; ++i) sums.part[i] = vdotq_s32(sums.part[i], bytes, weights.part[i]);
    return sums;
  }
};

}  // namespace
}  // namespace portabert
