// Products of rows and weights, tile by tile: a few rows by one or two panels of 16 columns, whose sums stay in registers.
//
//     for each group of panels            read once from memory, then from a cache
//         for each group of rows
//             for each four of the depth  sums[row][panel] += four bytes of the row · 16 columns of them
//             sums → memory → floats: · scales, + bias, + residual; the activation
//
// A row's zero point adds zero_point · (the column's sum) to each of its sums, which begin with as much less. Sums go through memory once they are done: with anything else to do
// for the registers that hold them, GCC keeps a copy of each in memory all along, at half the speed.

#pragma once

#include <type_traits>

#include "abreast.h"
#include "functions.h"
#include "kernels.h"
#include "unroll.h"

namespace portabert {
namespace {

// What is done to a product at last: an activation, rounding to bf16, or the addition of a residual, multiplied by factors or not.
enum class Ending { none, gelu, gelu_tanh, relu, tanh, bf16, add, add_scaled };

// Calls function(ending) with the product's ending as a constant, so that loops need not ask.
template <class Function>
void with_ending(const ProductArgs& args, Function function) {
  if (args.out_bf16) return function(std::integral_constant<Ending, Ending::bf16>{});
  if (args.residual && args.factors) return function(std::integral_constant<Ending, Ending::add_scaled>{});
  if (args.residual) return function(std::integral_constant<Ending, Ending::add>{});
  switch (args.activation) {
    case Activation::none:
      return function(std::integral_constant<Ending, Ending::none>{});
    case Activation::gelu:
      return function(std::integral_constant<Ending, Ending::gelu>{});
    case Activation::gelu_tanh:
      return function(std::integral_constant<Ending, Ending::gelu_tanh>{});
    case Activation::relu:
      return function(std::integral_constant<Ending, Ending::relu>{});
    case Activation::tanh:
      return function(std::integral_constant<Ending, Ending::tanh>{});
  }
}

// Ends N rows of a panel.
template <class Lanes, Ending E, int N>
PORTABERT_INLINE inline void finish_rows(const ProductArgs& args, int row, int column, typename Abreast<Lanes, N>::Floats value) {
  using Rows = Abreast<Lanes, N>;
  const std::int64_t at = std::int64_t{row} * args.out_stride + column, stride = args.out_stride;
  if constexpr (E == Ending::bf16) {
    unroll<N>([&](auto r) PORTABERT_INLINE { Lanes::store_bf16(args.out_bf16 + at + r * stride, value.part[r]); });
    return;
  } else if constexpr (E == Ending::add || E == Ending::add_scaled) {
    const float* before = args.residual + std::int64_t{row} * args.residual_stride + column;
    const std::int64_t before_stride = args.residual_stride;
    const auto factor = E == Ending::add ? Lanes::broadcast(1.0f) : Lanes::load(args.factors + column);
    value = Rows::each([&](int r) PORTABERT_INLINE { return Lanes::multiply_add(Lanes::load(before + r * before_stride), factor, value.part[r]); });
  } else {
    value = apply<Rows>(static_cast<Activation>(E), value);
  }
  unroll<N>([&](auto r) PORTABERT_INLINE { Lanes::store(args.out + at + r * stride, value.part[r]); });
}

// Turns the sums (num_rows, P, 16) of a tile into what is asked for.
template <class Form, Ending E, int P>
void finish_sums(const ProductArgs& args, const typename Form::Stored* sums, int row, int num_rows, int panel) {
  using Lanes = typename Form::Lanes;
  in_groups<Lanes::kAbreast>(num_rows, [&](auto n, int first) PORTABERT_INLINE {
    const auto* from = sums + std::int64_t{first} * P * kLanes;
    unroll<P>([&](auto p) PORTABERT_INLINE {
      const int column = (panel + p) * kLanes;
      const typename Form::Values values(args, row + first, column);
      finish_rows<Lanes, E, n>(args, row + first, column, Abreast<Lanes, n>::each([&](int r) PORTABERT_INLINE {
        return values(r, from + (r * P + p) * kLanes);
      }));
    });
  });
}

// The two reduced forms. A step is the same for both in bytes: four of a row, and 64 of a panel's columns.
template <class L>
struct Int8 {
  using Lanes = L;
  using Sums = typename Lanes::Ints;
  using Stored = std::int32_t;
  static constexpr int kNumbers = 4;  // along the depth, in a step

  static const void* weights(const Product& product) { return product.int8; }
  // Less what the rows' zero point adds.
  static Sums begin(const ProductArgs& args, int column) {
    return Lanes::load_times(args.product->sum + column, Lanes::kByteShift - args.rows.zero_point);
  }
  static auto load_columns(const std::uint8_t* from) { return Lanes::load_weights(reinterpret_cast<const std::int8_t*>(from)); }
  static auto load_row(const std::uint8_t* from) { return Lanes::load_bytes(from); }
  template <class Row, class Columns>
  static Sums dot(Sums sums, Row row, Columns columns) {
    return Lanes::dot(sums, row, columns);
  }
  static void store(Stored* to, Sums sums) { Lanes::store_ints(to, sums); }

  // values(r, sums): of row r and 16 columns, times the scales of both, plus the bias.
  struct Values {
    const float* row_scales;
    typename Lanes::Floats scale, bias;

    Values(const ProductArgs& args, int row, int column)
        : row_scales(args.rows.scale + row), scale(Lanes::load(args.product->scale + column)), bias(Lanes::load(args.product->bias + column)) {}
    PORTABERT_INLINE auto operator()(int r, const Stored* sums) const {
      const auto both = Lanes::multiply(scale, Lanes::broadcast(row_scales[r]));
      return Lanes::multiply_add(Lanes::to_floats(Lanes::load_ints(sums)), both, bias);
    }
  };
};

// A form whose sums are floats and begin with the bias, so that nothing is left to do.
template <class L>
struct Exact {
  using Lanes = L;
  using Sums = typename Lanes::Floats;
  using Stored = float;

  static Sums begin(const ProductArgs& args, int column) { return Lanes::load(args.product->bias + column); }
  static void store(Stored* to, Sums sums) { Lanes::store(to, sums); }

  struct Values {
    Values(const ProductArgs&, int, int) {}
    PORTABERT_INLINE auto operator()(int, const Stored* sums) const { return Lanes::load(sums); }
  };
};

// The numbers of a pair are multiplied exactly, and added one after the other, the second one first, with one rounding each. VDPBF16PS does so.
template <class L>
struct Bf16 : Exact<L> {
  using Lanes = L;
  using Sums = typename Lanes::Floats;
  static constexpr int kNumbers = 2;

  static const void* weights(const Product& product) { return product.bf16; }
  static auto load_columns(const std::uint8_t* from) { return Lanes::load_weight_pairs(reinterpret_cast<const std::uint16_t*>(from)); }
  static auto load_row(const std::uint8_t* from) { return Lanes::load_pair(from); }
  template <class Row, class Columns>
  static Sums dot(Sums sums, Row row, const Columns& columns) {
    return Lanes::dot_pairs(sums, row, columns);
  }
};

// Kept apart, once for all heights of tiles: inlined into each of them it takes a compiler minutes.
template <class Form, int P>
__attribute__((noinline)) void finish_stored(const ProductArgs& args, const typename Form::Stored* sums, int row, int num_rows, int panel) {
  with_ending(args, [&](auto ending) { finish_sums<Form, ending, P>(args, sums, row, num_rows, panel); });
}

template <class Form, int R, int P>
PORTABERT_INLINE inline void begin_sums(const ProductArgs& args, int panel, typename Form::Sums (&sums)[R][P]) {
  unroll<P>([&](auto p) PORTABERT_INLINE {
    const auto begin = Form::begin(args, (panel + p) * kLanes);
    unroll<R>([&](auto r) PORTABERT_INLINE { sums[r][p] = begin; });
  });
}

template <class Form, int R, int P>
PORTABERT_INLINE inline void finish_tile(const ProductArgs& args, int row, int panel, const typename Form::Sums (&sums)[R][P]) {
  alignas(64) typename Form::Stored done[R][P][kLanes];
  unroll<R>([&](auto r) PORTABERT_INLINE {
    unroll<P>([&](auto p) PORTABERT_INLINE { Form::store(done[r][p], sums[r][p]); });
  });
  finish_stored<Form, P>(args, done[0][0], row, R, panel);
}

// `First`: of the panels' groups of rows, which calls for the panels after these. Otherwise memory is read at the pace of one who asks page by page: a text of 16 tokens,
// that has one group, took 1.7 times as long.
template <class Form, int R, int P, bool First>
void multiply_reduced(const ProductArgs& args, int row, int panel) {
  constexpr int row_step = 4, panel_step = 4 * kLanes;  // bytes
  const Product& product = *args.product;
  const int steps = padded(product.depth, kDepth) / Form::kNumbers;
  const std::int64_t panel_bytes = std::int64_t{panel_step} * steps, row_bytes = args.rows.byte_stride;
  const std::uint8_t* weights = static_cast<const std::uint8_t*>(Form::weights(product)) + panel * panel_bytes;
  const std::uint8_t* bytes = args.rows.bytes + row * row_bytes;
  typename Form::Sums sums[R][P];
  begin_sums<Form>(args, panel, sums);
  for (int step = 0; step < steps; ++step) {
    decltype(Form::load_columns(nullptr)) columns[P];
    unroll<P>([&](auto p) PORTABERT_INLINE {
      columns[p] = Form::load_columns(weights + p * panel_bytes + step * panel_step);
      if constexpr (First) __builtin_prefetch(weights + (P + p) * panel_bytes + step * panel_step, 0, 2);
    });
    unroll<R>([&](auto r) PORTABERT_INLINE {
      const auto few = Form::load_row(bytes + r * row_bytes + step * row_step);
      unroll<P>([&](auto p) PORTABERT_INLINE { sums[r][p] = Form::dot(sums[r][p], few, columns[p]); });
    });
  }
  finish_tile<Form>(args, row, panel, sums);
}

template <class Lanes, int R, int P>
void multiply_exact(const ProductArgs& args, int row, int panel) {
  using Form = Exact<Lanes>;
  const Product& product = *args.product;
  const std::int64_t panel_floats = std::int64_t{kLanes} * product.depth, row_floats = args.rows.float_stride;
  const float* weights = product.exact + panel * panel_floats;
  const float* floats = args.rows.floats + row * row_floats;
  typename Lanes::Floats sums[R][P];
  begin_sums<Form>(args, panel, sums);
  for (int k = 0; k < product.depth; ++k) {
    typename Lanes::Floats columns[P];
    unroll<P>([&](auto p) PORTABERT_INLINE { columns[p] = Lanes::load(weights + p * panel_floats + k * kLanes); });
    unroll<R>([&](auto r) PORTABERT_INLINE {
      const auto value = Lanes::broadcast(floats[r * row_floats + k]);
      unroll<P>([&](auto p) PORTABERT_INLINE { sums[r][p] = Lanes::multiply_add(value, columns[p], sums[r][p]); });
    });
  }
  finish_tile<Form>(args, row, panel, sums);
}

template <class Form, int R, int P>
void multiply_reduced(const ProductArgs& args, int row, int panel) {
  row == 0 ? multiply_reduced<Form, R, P, true>(args, row, panel) : multiply_reduced<Form, R, P, false>(args, row, panel);
}

template <class Lanes, int R, int P>
void multiply_tile(const ProductArgs& args, int row, int panel) {
  if (args.product->int8)
    multiply_reduced<Int8<Lanes>, R, P>(args, row, panel);
  else if (args.product->bf16)
    multiply_reduced<Bf16<Lanes>, R, P>(args, row, panel);
  else
    multiply_exact<Lanes, R, P>(args, row, panel);
}

template <class Lanes, int P, int R = 1>
void multiply_rows(const ProductArgs& args, int row, int num_rows, int panel) {
  if (num_rows == R) return multiply_tile<Lanes, R, P>(args, row, panel);
  if constexpr (R < Lanes::kRows) multiply_rows<Lanes, P, R + 1>(args, row, num_rows, panel);
}

template <class Lanes, int P>
void multiply_panels(const ProductArgs& args, int panel) {
  // Rows in groups of like size: 16 are 8 and 8, not 12 and 4, for a small tile waits for its own sums.
  const int groups = (args.num_rows + Lanes::kRows - 1) / Lanes::kRows;
  for (int group = 0; group < groups; ++group) {
    const int row = part_begin(args.num_rows, group, groups);
    multiply_rows<Lanes, P>(args, row, part_begin(args.num_rows, group + 1, groups) - row, panel);
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
