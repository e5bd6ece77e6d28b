// 16 floats in a register of AVX-512, and VNNI's products of four bytes.

#pragma once

#include <immintrin.h>

#include "kernels.h"
#include "unroll.h"

namespace portabert {
namespace {

struct Avx512 {
  static constexpr const char* name = "avx512-vnni";
  static constexpr int kRows = 12, kPanels = 2;       // 24 of 32 registers are sums
  static constexpr int kQueries = 4, kKeyLanes = 2;  // so are 16, and 8 more, of attention
  static constexpr int kAbreast = 4;

  using Floats = __m512;
  using Ints = __m512i;

  static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Floats a) { _mm512_storeu_ps(to, a); }
  static Floats broadcast(float value) { return _mm512_set1_ps(value); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static Floats magnitude(Floats a) { return _mm512_abs_ps(a); }
  static Floats round(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Floats power_of_two(Floats a) {
    const Ints exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  static float sum(Floats a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float largest(Floats a) { return _mm512_reduce_max_ps(a); }
  static Floats from_int8(const std::int8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static void store_bytes(std::uint8_t* to, Floats a, int zero_point) {
    const Ints values = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(zero_point));
    const __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(values, _mm512_setzero_si512()));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  }
  // 64 at a time, which need fewer shuffles.
  static void store_bytes(std::uint8_t* to, Floats a, Floats b, Floats c, Floats d, int zero_point) {
    const Ints zero = _mm512_set1_epi16(static_cast<short>(zero_point));
    const Ints low = _mm512_adds_epi16(_mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)), zero);
    const Ints high = _mm512_adds_epi16(_mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d)), zero);
    const Ints order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
  }

  static void store_bf16(std::uint16_t* to, Floats a) {
    const Ints bits = _mm512_castps_si512(a), one = _mm512_set1_epi32(1);
    const Ints even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    const Ints rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
  static Floats from_bf16(const std::uint16_t* from) {
    const Ints halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16));
  }
  struct WeightPairs {
    Floats even, odd;
  };
  using Pair = WeightPairs;
  static WeightPairs load_weight_pairs(const std::uint16_t* from) { return split(_mm512_loadu_si512(from)); }
  static Pair load_pair(const std::uint8_t* from) { return split(load_bytes(from)); }
  static Floats dot_pairs(Floats sums, Pair pair, WeightPairs weights) {
    return _mm512_fmadd_ps(pair.even, weights.even, _mm512_fmadd_ps(pair.odd, weights.odd, sums));
  }
  static WeightPairs split(Ints pairs) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
  }

  static Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
  static Ints load_ints(const std::int32_t* from) { return _mm512_loadu_si512(from); }
  static void store_ints(std::int32_t* to, Ints a) { _mm512_storeu_si512(to, a); }
  static constexpr int kByteShift = 0;
  static Ints load_times(const std::int32_t* from, std::int32_t factor) {
    return _mm512_mullo_epi32(_mm512_loadu_si512(from), _mm512_set1_epi32(factor));
  }
  using Weights = __m512i;
  using Bytes = __m512i;
  static Weights load_weights(const std::int8_t* from) { return _mm512_loadu_si512(from); }
  static Bytes load_bytes(const std::uint8_t* from) {
    std::int32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Ints dot(Ints sums, Bytes bytes, Weights weights) { return _mm512_dpbusd_epi32(sums, bytes, weights); }
};

#ifdef __AVX512BF16__
// With the instructions that round to bf16 and multiply pairs of it.
struct Avx512Bf16 : Avx512 {
  static constexpr const char* name = "avx512-bf16";

  static void store_bf16(std::uint16_t* to, Floats a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)));
  }

  using WeightPairs = __m512i;
  using Pair = __m512i;
  static WeightPairs load_weight_pairs(const std::uint16_t* from) { return _mm512_loadu_si512(from); }
  static Pair load_pair(const std::uint8_t* from) { return load_bytes(from); }
  // Up to 16 rows of 16 pairs, of which there are `numbers` numbers, → (16 pairs, 16 rows); the rest is zero. Two rows change halves, then quarters, and so on.
  static void transpose_pairs(const std::uint16_t* from, std::int64_t stride, int num_rows, int numbers, std::uint16_t* to) {
    const __mmask32 there = numbers < 32 ? (1u << numbers) - 1 : ~0u;
    Ints rows[16];
    unroll<16>([&](auto r) PORTABERT_INLINE {
      rows[r] = r < num_rows ? _mm512_maskz_loadu_epi16(there, from + r * stride) : _mm512_setzero_si512();
    });
    const Ints lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    unroll<4>([&](auto step) PORTABERT_INLINE {
      constexpr int apart = 8 >> step;
      const __mmask16 second = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(apart));
      const Ints above = _mm512_add_epi32(lane, _mm512_set1_epi32(apart)), below = _mm512_add_epi32(lane, _mm512_set1_epi32(16 - apart));
      const Ints low = _mm512_mask_blend_epi32(second, lane, below);
      const Ints high = _mm512_mask_add_epi32(above, second, lane, _mm512_set1_epi32(16));
      unroll<8>([&](auto i) PORTABERT_INLINE {
        constexpr int a = i / apart * 2 * apart + i % apart, b = a + apart;
        const Ints first = rows[a];
        rows[a] = _mm512_permutex2var_epi32(first, low, rows[b]);
        rows[b] = _mm512_permutex2var_epi32(first, high, rows[b]);
      });
    });
    unroll<16>([&](auto r) PORTABERT_INLINE { _mm512_store_si512(to + 32 * r, rows[r]); });
  }
  // Two rows of 16 numbers, of zeros where there is none, → 16 pairs.
  static void zip(const std::uint16_t* even, const std::uint16_t* odd, std::uint16_t* to) {
    const auto widened = [](const std::uint16_t* from) {
      return from ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))) : _mm512_setzero_si512();
    };
    _mm512_store_si512(to, _mm512_or_si512(widened(even), _mm512_slli_epi32(widened(odd), 16)));
  }

  static Floats dot_pairs(Floats sums, Pair pair, WeightPairs weights) {
    return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(pair), reinterpret_cast<__m512bh>(weights));
  }
};
#endif

}  // namespace
}  // namespace portabert
