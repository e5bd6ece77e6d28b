// Int8 products in AMX's tiles: 16 rows of 64 bytes by 16 columns of 64 bytes, 16,384 multiplications an instruction.
//
//     sums (16 rows, 16 columns)  +=  rows (16, 64 bytes)  ·  a panel's 16 steps (16, 16 columns × 4 bytes)
//
// Four tiles of sums: two groups of rows by two panels, or, where there are at most 16 rows, one group by four panels, so that no sum waits for the one before it. Rows
// beyond the last one are read and thrown away (encoder.cpp's buffers have them).
//
// `Tiles` is the processor's (tiles_amx.h) or, to test all of this anywhere, a loop (tiles_emulated.h).

#pragma once

#include "product.h"

namespace portabert {
namespace {

constexpr int kTileRows = 16;

// Multiplies `groups` times 16 rows by `panels` panels and finishes the first num_rows of them.
template <class Lanes, class Tiles, int Groups, int Panels>
void multiply_tiles(const ProductArgs& args, int row, int num_rows, int panel) {
  const Product& product = *args.product;
  const int depth = padded(product.depth, kDepth);
  const std::int64_t panel_bytes = std::int64_t{kLanes} * depth;
  const std::uint8_t* bytes = args.rows.bytes + std::int64_t{row} * args.rows.byte_stride;
  const std::int8_t* weights = product.int8 + panel * panel_bytes;
  Tiles::template zero<Groups, Panels>();
  for (int k = 0; k < depth; k += kDepth)
    Tiles::template step<Groups, Panels>(bytes + k, args.rows.byte_stride, weights + std::int64_t{k} * kLanes, panel_bytes);
  alignas(64) std::int32_t sums[Groups * kTileRows * Panels * kLanes];
  Tiles::template store<Groups, Panels>(sums);
  with_activation(args.activation, [&](auto activation) {
    finish_int8<Lanes, activation>(args, sums, row, num_rows, panel, Panels, -args.rows.zero_point);
  });
}

template <class Lanes, class Tiles, int Groups, int Panels>
int multiply_columns(const ProductArgs& args, int panel) {
  constexpr int rows = Groups * kTileRows;
  for (; panel + Panels <= args.panel_end; panel += Panels)
    for (int row = 0; row < args.num_rows; row += rows) {
      const int left = args.num_rows - row;
      if (Groups == 2 && left <= kTileRows)
        multiply_tiles<Lanes, Tiles, 1, Panels>(args, row, left, panel);
      else
        multiply_tiles<Lanes, Tiles, Groups, Panels>(args, row, left < rows ? left : rows, panel);
    }
  return panel;
}

template <class Lanes, class Tiles>
void multiply_amx(const ProductArgs& args) {
  if (!args.product->int8) return multiply<Lanes>(args);
  Tiles::begin();
  int panel = args.panel_begin;
  if (args.num_rows > kTileRows) {
    panel = multiply_columns<Lanes, Tiles, 2, 2>(args, panel);
    multiply_columns<Lanes, Tiles, 2, 1>(args, panel);
  } else {
    panel = multiply_columns<Lanes, Tiles, 1, 4>(args, panel);
    panel = multiply_columns<Lanes, Tiles, 1, 2>(args, panel);
    multiply_columns<Lanes, Tiles, 1, 1>(args, panel);
  }
  Tiles::end();
}

}  // namespace
}  // namespace portabert
