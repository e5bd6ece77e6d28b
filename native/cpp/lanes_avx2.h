// 16 floats in two registers of AVX2 with FMA. Products of four bytes: AVX-VNNI's, or exact ones of pairs in 16 bits, for VPMADDUBSW saturates.

#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace portabert {
namespace {

struct Avx2Lanes {
  static constexpr int kQueries = 2, kKeyLanes = 1;  // 8 of 16 registers are sums of attention, and 4 more
  static constexpr int kAbreast = 2;

  struct Floats {
    __m256 low, high;
  };
  struct Ints {
    __m256i low, high;
  };

  static Floats load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
  static void store(float* to, Floats a) {
    _mm256_storeu_ps(to, a.low);
    _mm256_storeu_ps(to + 8, a.high);
  }
  static Floats broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static Floats subtract(Floats a, Floats b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  static Floats multiply(Floats a, Floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static Floats divide(Floats a, Floats b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  static Floats multiply_add(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static Floats larger(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  static Floats smaller(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
  static Floats magnitude(Floats a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
  }
  static Floats round(Floats a) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.low, nearest), _mm256_round_ps(a.high, nearest)};
  }
  static Floats power_of_two(Floats a) {
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i low = _mm256_add_epi32(_mm256_cvtps_epi32(a.low), bias);
    const __m256i high = _mm256_add_epi32(_mm256_cvtps_epi32(a.high), bias);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 23)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 23))};
  }
  static float sum(Floats a) {
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float largest(Floats a) {
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static Floats from_int8(const std::int8_t* from) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
  }
  static void store_bytes(std::uint8_t* to, Floats a, int zero_point) {
    const __m256i zero = _mm256_set1_epi32(zero_point);
    const __m256i low = _mm256_add_epi32(_mm256_cvtps_epi32(a.low), zero);
    const __m256i high = _mm256_add_epi32(_mm256_cvtps_epi32(a.high), zero);
    const __m256i pairs = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0b11'01'10'00);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  }
  static void store_bf16(std::uint16_t* to, Floats a) {
    const __m256i pairs = _mm256_packus_epi32(upper(a.low), upper(a.high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(pairs, 0b11'01'10'00));
  }
  static Floats from_bf16(const std::uint16_t* from) {
    const __m256i halves = load_register(from);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(halves)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(halves, 1)), 16))};
  }
  struct WeightPairs {
    Floats even, odd;
  };
  struct Pair {
    __m256 even, odd;
  };
  static WeightPairs load_weight_pairs(const std::uint16_t* from) {
    const Pair low = split(load_register(from)), high = split(load_register(from + 16));
    return {{low.even, high.even}, {low.odd, high.odd}};
  }
  static Pair load_pair(const std::uint8_t* from) { return split(broadcast_four(from)); }
  static Floats dot_pairs(Floats sums, Pair pair, const WeightPairs& weights) {
    return {_mm256_fmadd_ps(pair.even, weights.even.low, _mm256_fmadd_ps(pair.odd, weights.odd.low, sums.low)),
            _mm256_fmadd_ps(pair.even, weights.even.high, _mm256_fmadd_ps(pair.odd, weights.odd.high, sums.high))};
  }

  static Floats to_floats(Ints a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
  static Ints load_ints(const std::int32_t* from) { return {load_register(from), load_register(from + 8)}; }
  static void store_ints(std::int32_t* to, Ints a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a.low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 8), a.high);
  }
  static constexpr int kByteShift = 0;
  static Ints load_times(const std::int32_t* from, std::int32_t factor) {
    const __m256i by = _mm256_set1_epi32(factor);
    return {_mm256_mullo_epi32(load_register(from), by), _mm256_mullo_epi32(load_register(from + 8), by)};
  }

 protected:
  static Pair split(__m256i pairs) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000))))};
  }
  static __m256i upper(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), even), 16);
  }
  static __m256i load_register(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static __m256i broadcast_four(const std::uint8_t* from) {
    std::int32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    return _mm256_set1_epi32(four);
  }
};

#if defined(__AVXVNNI__) || defined(__AVX512VNNI__)
struct AvxVnni : Avx2Lanes {
  static constexpr int kRows = 6, kPanels = 1;  // 12 of 16 registers are sums

  struct Weights {
    __m256i low, high;
  };
  using Bytes = __m256i;
  static Weights load_weights(const std::int8_t* from) { return {load_register(from), load_register(from + 32)}; }
  static Bytes load_bytes(const std::uint8_t* from) { return broadcast_four(from); }
  static Ints dot(Ints sums, Bytes bytes, Weights weights) {
    return {dot(sums.low, bytes, weights.low), dot(sums.high, bytes, weights.high)};
  }

 private:
  static __m256i dot(__m256i sums, __m256i bytes, __m256i weights) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(sums, bytes, weights);
#else
    return _mm256_dpbusd_epi32(sums, bytes, weights);
#endif
  }
};
#endif

struct Avx2 : Avx2Lanes {
  static constexpr const char* name = "avx2";
  static constexpr int kRows = 4, kPanels = 1;

  // Bytes 0 and 2, and bytes 1 and 3, of each four, as 16 bits.
  struct Weights {
    __m256i low_even, low_odd, high_even, high_odd;
  };
  struct Bytes {
    __m256i even, odd;
  };
  static Weights load_weights(const std::int8_t* from) {
    const __m256i low = load_register(from), high = load_register(from + 32);
    return {even(low), _mm256_srai_epi16(low, 8), even(high), _mm256_srai_epi16(high, 8)};
  }
  static Bytes load_bytes(const std::uint8_t* from) {
    const __m256i four = broadcast_four(from);
    return {_mm256_and_si256(four, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(four, 8)};
  }
  static Ints dot(Ints sums, Bytes bytes, Weights weights) {
    const __m256i low = _mm256_add_epi32(_mm256_madd_epi16(bytes.even, weights.low_even),
                                         _mm256_madd_epi16(bytes.odd, weights.low_odd));
    const __m256i high = _mm256_add_epi32(_mm256_madd_epi16(bytes.even, weights.high_even),
                                          _mm256_madd_epi16(bytes.odd, weights.high_odd));
    return {_mm256_add_epi32(sums.low, low), _mm256_add_epi32(sums.high, high)};
  }

 private:
  static __m256i even(__m256i bytes) { return _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8); }
};

}  // namespace
}  // namespace portabert
