// What is done to single rows: embedding, LayerNorm, quantisation, rounding to bf16. Rows are padded to whole lanes with zeros, and stay so.

#pragma once

#include <cmath>

#include "kernels.h"

namespace portabert {
namespace {

// Ones, then zeros: from `16 − n` on, the lanes of a row's last block that n of its numbers fill.
alignas(64) constexpr float kFilled[2 * kLanes] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

template <class Lanes>
typename Lanes::Floats look_up(TableRow row, int at) {
  if (row.exact) return Lanes::load(row.exact + at);
  if (row.bf16) return Lanes::from_bf16(row.bf16 + at);
  return Lanes::multiply(Lanes::from_int8(row.int8 + at), Lanes::broadcast(row.scale));
}

template <class Lanes>
void embed(TableRow word, TableRow position, int width, float* out) {
  for (int i = 0; i < width; i += kLanes)
    Lanes::store(out + i, Lanes::add(look_up<Lanes>(word, i), look_up<Lanes>(position, i)));
}

template <class Lanes>
void norm(float* row, int width, const float* weight, const float* bias, float epsilon) {
  auto sum = Lanes::broadcast(0.0f);
  for (int i = 0; i < width; i += kLanes) sum = Lanes::add(sum, Lanes::load(row + i));
  const auto mean = Lanes::broadcast(Lanes::sum(sum) / static_cast<float>(width));
  auto squares = Lanes::broadcast(0.0f);
  for (int i = 0; i < width; i += kLanes) {
    auto apart = Lanes::subtract(Lanes::load(row + i), mean);
    if (width - i < kLanes) apart = Lanes::multiply(apart, Lanes::load(kFilled + kLanes - (width - i)));
    squares = Lanes::multiply_add(apart, apart, squares);
  }
  const float variance = Lanes::sum(squares) / static_cast<float>(width);
  const auto factor = Lanes::broadcast(1.0f / std::sqrt(variance + epsilon));
  for (int i = 0; i < width; i += kLanes) {
    const auto apart = Lanes::multiply(Lanes::subtract(Lanes::load(row + i), mean), factor);
    Lanes::store(row + i, Lanes::multiply_add(apart, Lanes::load(weight + i), Lanes::load(bias + i)));
  }
}

template <class Lanes>
void quantize(const float* row, int width, Range range, std::uint8_t* bytes, float* scale) {
  const bool symmetric = range.floor < 0.0f;
  auto largest = Lanes::broadcast(0.0f);
  for (int i = 0; i < width; i += kLanes) {
    const auto x = Lanes::load(row + i);
    largest = Lanes::larger(symmetric ? Lanes::magnitude(x) : x, largest);
  }
  const float top = Lanes::largest(largest) / static_cast<float>(symmetric ? 127 : 255 - range.zero_point);
  *scale = symmetric || top > range.floor ? top : range.floor;
  const auto factor = Lanes::broadcast(*scale > 0.0f ? 1.0f / *scale : 0.0f);
  for (int i = 0; i < width; i += kLanes)
    Lanes::store_bytes(bytes + i, Lanes::multiply(Lanes::load(row + i), factor), range.zero_point);
}

template <class Lanes>
void round_to_bf16(const float* row, int width, std::uint8_t* bytes) {
  for (int i = 0; i < width; i += kLanes)
    Lanes::store_bf16(reinterpret_cast<std::uint16_t*>(bytes) + i, Lanes::load(row + i));
}

}  // namespace
}  // namespace portabert
