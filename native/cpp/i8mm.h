// Int8 products by USMMLA, which multiplies two rows of eight bytes by two columns of eight:
//
//     sums [row 0 · column 0, row 0 · column 1, row 1 · column 0, row 1 · column 1]  +=
//         rows [8 bytes of row 0 | 8 bytes of row 1]  ·  columns [8 bytes of column 0 | 8 bytes of column 1]
//
// Two steps of a panel (4 bytes of each of 16 columns) are zipped into eight such pairs of columns, which all pairs of rows share.

#pragma once

#include <arm_neon.h>

#include "product.h"

namespace portabert {
namespace {

constexpr int kPairs = 3;  // of rows in a tile: 24 of 32 registers are sums

template <class Lanes, int Pairs>
void multiply_pairs(const ProductArgs& args, int row, int num_rows, int panel) {
  const Product& product = *args.product;
  const int depth = padded(product.depth, kDepth);
  const std::int8_t* weights = product.int8 + std::int64_t{panel} * kLanes * depth;
  const std::uint8_t* bytes = args.rows.bytes + std::int64_t{row} * args.rows.byte_stride;
  const std::int64_t row_bytes = args.rows.byte_stride;
  int32x4_t sums[Pairs][8];
  std::int32_t begin[kLanes];
  Lanes::store_ints(begin, Lanes::load_times(product.sum + panel * kLanes, -args.rows.zero_point));
  unroll<8>([&](auto c) PORTABERT_INLINE {
    const int32x4_t both = vcombine_s32(vld1_s32(begin + 2 * c), vld1_s32(begin + 2 * c));
    unroll<Pairs>([&](auto p) PORTABERT_INLINE { sums[p][c] = both; });
  });
  for (int k = 0; k < depth; k += 8) {
    uint8x16_t rows[Pairs];
    unroll<Pairs>([&](auto p) PORTABERT_INLINE {
      const std::uint8_t* first = bytes + 2 * p * row_bytes + k;
      rows[p] = vcombine_u8(vld1_u8(first), vld1_u8(first + row_bytes));
    });
    unroll<4>([&](auto four) PORTABERT_INLINE {
      const int32x4_t step = vreinterpretq_s32_s8(vld1q_s8(weights + k * kLanes + 16 * four));
      const int32x4_t next = vreinterpretq_s32_s8(vld1q_s8(weights + (k + 4) * kLanes + 16 * four));
      const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(step, next)), high = vreinterpretq_s8_s32(vzip2q_s32(step, next));
      unroll<Pairs>([&](auto p) PORTABERT_INLINE {
        sums[p][2 * four] = vusmmlaq_s32(sums[p][2 * four], rows[p], low);
        sums[p][2 * four + 1] = vusmmlaq_s32(sums[p][2 * four + 1], rows[p], high);
      });
    });
  }
  alignas(64) std::int32_t done[2 * Pairs][kLanes];
  unroll<Pairs>([&](auto p) PORTABERT_INLINE {
    unroll<8>([&](auto c) PORTABERT_INLINE {
      vst1_s32(&done[2 * p][2 * c], vget_low_s32(sums[p][c]));
      vst1_s32(&done[2 * p + 1][2 * c], vget_high_s32(sums[p][c]));
    });
  });
  finish_stored<Int8<Lanes>, 1>(args, done[0], row, num_rows, panel);
}

template <class Lanes>
void multiply_i8mm(const ProductArgs& args) {
  if (!args.product->int8) return multiply<Lanes>(args);
  for (int panel = args.panel_begin; panel < args.panel_end; ++panel)
    for (int row = 0; row < args.num_rows; row += 2 * kPairs) {
      const int left = args.num_rows - row;  // the second row of the last pair may be one behind the last, whose sums are thrown away
      if (left > 4)
        multiply_pairs<Lanes, 3>(args, row, left < 6 ? left : 6, panel);
      else if (left > 2)
        multiply_pairs<Lanes, 2>(args, row, left, panel);
      else
        multiply_pairs<Lanes, 1>(args, row, left, panel);
    }
}

}  // namespace
}  // namespace portabert
