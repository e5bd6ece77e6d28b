// Products of rows and weights, tile by tile: a few rows by one or two panels of 16 columns, whose sums stay in registers.
//
//     for each group of panels            read once from memory, then from a cache
//         for each group of rows
//             for each four of the depth  sums[row][panel] += four bytes of the row · 16 columns of them
//             sums → memory → floats: · scales, + bias, + residual; the activation
//
// Sums begin at −zero_point · (the column's sum), which is what rows' zero points add to them. They go through memory once they are done: with anything else to do for
// the registers that hold them, GCC keeps a copy of each in memory all along, at half the speed.

#pragma once

#include "functions.h"
#include "kernels.h"
#include "unroll.h"

namespace portabert {
namespace {

// Writes one block of 16 columns: the product, with bias, and the residual where there is one.
template <class Lanes>
void finish(const ProductArgs& args, int row, int column, typename Lanes::Floats value) {
  if (args.residual) {
    const auto before = Lanes::load(args.residual + std::int64_t{row} * args.residual_stride + column);
    value = args.factors ? Lanes::multiply_add(before, Lanes::load(args.factors + column), value)
                         : Lanes::add(before, value);
  }
  Lanes::store(args.out + std::int64_t{row} * args.out_stride + column, apply<Lanes>(args.activation, value));
}

// Turns the sums (num_rows, num_panels, 16) of a tile into what is asked for.
template <class Lanes>
void finish_int8(const ProductArgs& args, const std::int32_t* sums, int row, int num_rows, int panel, int num_panels) {
  const Product& product = *args.product;
  for (int p = 0; p < num_panels; ++p) {
    const int column = (panel + p) * kLanes;
    const auto scale = Lanes::load(product.scale + column), bias = Lanes::load(product.bias + column);
    for (int r = 0; r < num_rows; ++r) {
      const auto both = Lanes::multiply(scale, Lanes::broadcast(args.rows.scale[row + r]));
      const auto value = Lanes::to_floats(Lanes::load_ints(sums + (r * num_panels + p) * kLanes));
      finish<Lanes>(args, row + r, column, Lanes::multiply_add(value, both, bias));
    }
  }
}

template <class Lanes, int R, int P>
void multiply_int8(const ProductArgs& args, int row, int panel) {
  const Product& product = *args.product;
  const int depth = padded(product.depth, kDepth), column = panel * kLanes;
  const std::int8_t* weights = product.int8 + std::int64_t{panel} * kLanes * depth;
  const std::uint8_t* bytes = args.rows.bytes + std::int64_t{row} * args.rows.byte_stride;
  const std::int64_t panel_bytes = std::int64_t{kLanes} * depth, row_bytes = args.rows.byte_stride;
  typename Lanes::Ints sums[R][P];
  unroll<P>([&](auto p) PORTABERT_INLINE {
    const auto begin = Lanes::load_times(product.sum + column + p * kLanes, Lanes::kByteShift - args.rows.zero_point);
    unroll<R>([&](auto r) PORTABERT_INLINE { sums[r][p] = begin; });
  });
  for (int k = 0; k < depth; k += 4) {
    typename Lanes::Weights columns[P];
    unroll<P>([&](auto p) PORTABERT_INLINE { columns[p] = Lanes::load_weights(weights + p * panel_bytes + k * kLanes); });
    unroll<R>([&](auto r) PORTABERT_INLINE {
      const auto four = Lanes::load_bytes(bytes + r * row_bytes + k);
      unroll<P>([&](auto p) PORTABERT_INLINE { sums[r][p] = Lanes::dot(sums[r][p], four, columns[p]); });
    });
  }
  alignas(64) std::int32_t done[R][P][kLanes];
  unroll<R>([&](auto r) PORTABERT_INLINE {
    unroll<P>([&](auto p) PORTABERT_INLINE { Lanes::store_ints(done[r][p], sums[r][p]); });
  });
  finish_int8<Lanes>(args, done[0][0], row, R, panel, P);
}

template <class Lanes, int R, int P>
void multiply_exact(const ProductArgs& args, int row, int panel) {
  const Product& product = *args.product;
  const int column = panel * kLanes;
  const std::int64_t panel_floats = std::int64_t{kLanes} * product.depth, row_floats = args.rows.float_stride;
  const float* weights = product.exact + panel * panel_floats;
  const float* floats = args.rows.floats + row * row_floats;
  typename Lanes::Floats sums[R][P];
  unroll<P>([&](auto p) PORTABERT_INLINE {
    unroll<R>([&](auto r) PORTABERT_INLINE { sums[r][p] = Lanes::load(product.bias + column + p * kLanes); });
  });
  for (int k = 0; k < product.depth; ++k) {
    typename Lanes::Floats columns[P];
    unroll<P>([&](auto p) PORTABERT_INLINE { columns[p] = Lanes::load(weights + p * panel_floats + k * kLanes); });
    unroll<R>([&](auto r) PORTABERT_INLINE {
      const auto value = Lanes::broadcast(floats[r * row_floats + k]);
      unroll<P>([&](auto p) PORTABERT_INLINE { sums[r][p] = Lanes::multiply_add(value, columns[p], sums[r][p]); });
    });
  }
  alignas(64) float done[R][P][kLanes];
  unroll<R>([&](auto r) PORTABERT_INLINE {
    unroll<P>([&](auto p) PORTABERT_INLINE { Lanes::store(done[r][p], sums[r][p]); });
  });
  for (int p = 0; p < P; ++p)
    for (int r = 0; r < R; ++r) finish<Lanes>(args, row + r, column + p * kLanes, Lanes::load(done[r][p]));
}

template <class Lanes, int P, int R = 1>
void multiply_tile(const ProductArgs& args, int row, int num_rows, int panel) {
  if (num_rows == R) {
    args.product->int8 ? multiply_int8<Lanes, R, P>(args, row, panel) : multiply_exact<Lanes, R, P>(args, row, panel);
  } else if constexpr (R < Lanes::kRows) {
    multiply_tile<Lanes, P, R + 1>(args, row, num_rows, panel);
  }
}

template <class Lanes, int P>
void multiply_panels(const ProductArgs& args, int panel) {
  // Rows in groups of like size: 16 are 8 and 8, not 12 and 4, for a small tile waits for its own sums.
  const int groups = (args.num_rows + Lanes::kRows - 1) / Lanes::kRows;
  for (int group = 0, row = 0; group < groups; ++group) {
    const int end = args.num_rows * (group + 1) / groups;
    multiply_tile<Lanes, P>(args, row, end - row, panel);
    row = end;
  }
}

template <class Lanes>
void multiply(const ProductArgs& args) {
  int panel = args.panel_begin;
  for (; panel + Lanes::kPanels <= args.panel_end; panel += Lanes::kPanels)
    multiply_panels<Lanes, Lanes::kPanels>(args, panel);
  for (; panel < args.panel_end; ++panel) multiply_panels<Lanes, 1>(args, panel);
}

}  // namespace
}  // namespace portabert
