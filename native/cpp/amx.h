// Products in AMX's tiles: 16 rows of 64 bytes by 16 columns of 64 bytes an instruction, 16,384 multiplications of int8 or 8,192 of bf16.
//
//     sums (16 rows, 16 columns)  +=  rows (16, 64 bytes)  ·  a panel's 16 steps (16, 16 columns × 4 bytes)
//
// Four tiles of sums make a block: two groups of rows by two panels, or, where there are at most 16 rows, one group by four panels, so that no sum waits for the one before it.
// Rows beyond the last one are read and thrown away (encoder.cpp's buffers have them).
//
// Tiles compute beside the rest of the processor. What is left to do with a block's sums (scales, activation, residual) is done bit by bit between the steps of the next block:
//
//     tiles    block 0 |  block 1            |  block 2            |
//     lanes            |  finish block 0     |  finish block 1     |  finish block 2
//
// `Tiles` is the processor's (tiles_amx.h) or, to test all of this anywhere, a loop (tiles_emulated.h): sums in 0 to 3, rows in 4 and 5, columns in 6 and 7.

#pragma once

#include "product.h"

namespace portabert {
namespace {

constexpr int kTileRows = 16, kTileRowBytes = 64;

template <class Tiles, class Form, Ending E>
class TiledProduct {
 public:
  explicit TiledProduct(const ProductArgs& args)
      : args_(args),
        steps_(padded(args.product->depth, kDepth) * 4 / Form::kNumbers / kTileRowBytes),
        panel_bytes_(std::int64_t{steps_} * kTileRowBytes * kLanes),
        weights_(static_cast<const std::uint8_t*>(Form::weights(*args.product))) {}

  void run() {
    int panel = args_.panel_begin;
    prepare(panel);
    if (args_.num_rows > kTileRows) {
      panel = multiply_panels<2, 2>(panel);
      multiply_panels<2, 1>(panel);
    } else {
      panel = multiply_panels<1, 4>(panel);
      panel = multiply_panels<1, 2>(panel);
      multiply_panels<1, 1>(panel);
    }
    finish_last();
  }

 private:
  using Stored = typename Form::Stored;

  // The block whose sums are stored and not yet finished.
  struct Block {
    const Stored* sums = nullptr;
    int row = 0, num_rows = 0, panel = 0, num_panels = 0;
  };

  template <int Groups, int Panels>
  int multiply_panels(int panel) {
    constexpr int most = Groups * kTileRows;
    for (; panel + Panels <= args_.panel_end; panel += Panels) {
      turn_begin_ ^= 1;
      for (int row = 0; row < args_.num_rows; row += most) {
        const int left = args_.num_rows - row;
        if (Groups == 2 && left <= kTileRows)
          multiply_block<1, Panels>(row, left, panel);
        else
          multiply_block<Groups, Panels>(row, left < most ? left : most, panel);
      }
    }
    return panel;
  }

  // Makes what the sums of the next panels begin with. Tiles that load what was stored just now wait for it to reach the cache.
  void prepare(int panel) {
    const int num_panels = args_.panel_end - panel < 4 ? args_.panel_end - panel : 4;
    for (int p = 0; p < num_panels; ++p) Form::store(begin_[turn_begin_ ^ 1][p], Form::begin(args_, (panel + p) * kLanes));
  }

  template <int Groups, int Panels>
  void multiply_block(int row, int num_rows, int panel) {
    static_assert((Groups == 2 && Panels <= 2) || (Groups == 1 && (Panels <= 2 || Panels == 4)));
    const std::uint8_t* weights = weights_ + panel * panel_bytes_;
    const std::uint8_t* bytes = args_.rows.bytes + std::int64_t{row} * args_.rows.byte_stride;
    unroll<Groups * Panels>([&](auto sums) PORTABERT_INLINE { Tiles::template load<sums>(begin_[turn_begin_][sums % Panels], 0); });
    if (row == 0) prepare(panel + Panels);
    if (last_.num_panels != Panels) finish_last();
    const int groups = last_.num_rows / Form::Lanes::kAbreast;  // of rows to finish meanwhile
    const std::int64_t byte_stride = args_.rows.byte_stride, panel_bytes = panel_bytes_;
    const int steps = steps_;
    for (int step = 0, group = 0, due = groups; step < steps; ++step, due += groups) {
      const std::uint8_t* rows = bytes + step * kTileRowBytes;
      const std::uint8_t* columns = weights + step * (kTileRowBytes * kLanes);
      Tiles::template load<4>(rows, byte_stride);
      unroll<Panels>([&](auto p) PORTABERT_INLINE {
        Tiles::template load<6 + p % 2>(columns + p * panel_bytes, kTileRowBytes);
        dot<p, 4, 6 + p % 2>();
      });
      if constexpr (Groups == 2) {
        Tiles::template load<5>(rows + kTileRows * byte_stride, byte_stride);
        unroll<Panels>([&](auto p) PORTABERT_INLINE { dot<Panels + p, 5, 6 + p % 2>(); });
      }
      for (; (group + 1) * steps <= due; ++group) finish<Panels>(group * Form::Lanes::kAbreast, Form::Lanes::kAbreast);
    }
    finish<Panels>(groups * Form::Lanes::kAbreast, last_.num_rows - groups * Form::Lanes::kAbreast);
    Stored* sums = sums_[turn_];
    turn_ ^= 1;
    unroll<Groups * Panels>([&](auto i) PORTABERT_INLINE {
      Tiles::template store<i>(sums + (i / Panels * kTileRows * Panels + i % Panels) * kLanes, Panels * kTileRowBytes);
    });
    last_ = {sums, row, num_rows, panel, Panels};
  }

  template <int Sums, int Rows, int Columns>
  static void dot() {
    if constexpr (std::is_same_v<Stored, std::int32_t>)
      Tiles::template dot_int8<Sums, Rows, Columns>();
    else
      Tiles::template dot_bf16<Sums, Rows, Columns>();
  }

  // Finishes some rows of the last block.
  template <int Panels>
  void finish(int row, int num_rows) {
    finish_sums<Form, E, Panels>(args_, last_.sums + std::int64_t{row} * Panels * kLanes, last_.row + row, num_rows, last_.panel);
  }

  // Finishes all of the last block, whatever its shape.
  void finish_last() {
    if (last_.num_panels == 4) finish<4>(0, last_.num_rows);
    if (last_.num_panels == 2) finish<2>(0, last_.num_rows);
    if (last_.num_panels == 1) finish<1>(0, last_.num_rows);
    last_.num_rows = 0;
  }

  const ProductArgs& args_;
  const int steps_;
  const std::int64_t panel_bytes_;
  const std::uint8_t* weights_;
  Block last_;
  int turn_ = 0, turn_begin_ = 0;
  alignas(64) Stored begin_[2][4][kLanes];
  alignas(64) Stored sums_[2][4 * kTileRows * kLanes];
};

template <class Lanes, class Tiles>
void multiply_amx(const ProductArgs& args) {
  if (args.product->exact) return multiply<Lanes>(args);
  Tiles::begin();
  with_ending(args, [&](auto ending) {
    if (args.product->int8)
      TiledProduct<Tiles, Int8<Lanes>, ending>(args).run();
    else
      TiledProduct<Tiles, Bf16<Lanes>, ending>(args).run();
  });
  Tiles::end();
}

}  // namespace
}  // namespace portabert
