// What is done to single rows: embedding, LayerNorm, quantisation, rounding to bf16. Rows are padded to whole lanes with zeros, and stay so.

#pragma once

#include <cmath>

#include "abreast.h"
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
float scale_of(typename Lanes::Floats largest, Range range) {
  const bool symmetric = range.floor < 0.0f;
  const float top = Lanes::largest(largest) / static_cast<float>(symmetric ? 127 : 255 - range.zero_point);
  return symmetric || top > range.floor ? top : range.floor;
}

template <class Lanes>
void quantize_by(float scale, const float* row, int width, int zero_point, std::uint8_t* bytes) {
  const auto factor = Lanes::broadcast(scale > 0.0f ? 1.0f / scale : 0.0f);
  const auto scaled = [&](int at) PORTABERT_INLINE { return Lanes::multiply(Lanes::load(row + at), factor); };
  int i = 0;
  if constexpr (requires { Lanes::store_bytes(bytes, factor, factor, factor, factor, 0); })
    for (; i + 4 * kLanes <= width; i += 4 * kLanes)
      Lanes::store_bytes(bytes + i, scaled(i), scaled(i + kLanes), scaled(i + 2 * kLanes), scaled(i + 3 * kLanes), zero_point);
  for (; i < width; i += kLanes) Lanes::store_bytes(bytes + i, scaled(i), zero_point);
}

template <class Lanes>
void round_to_bf16(const float* row, int width, std::uint8_t* bytes) {
  for (int i = 0; i < width; i += kLanes)
    Lanes::store_bf16(reinterpret_cast<std::uint16_t*>(bytes) + i, Lanes::load(row + i));
}

// Reduces row `index`, of which the largest numbers by lane are known (to bf16 without them).
template <class Lanes>
void write_reduced(const float* row, int width, typename Lanes::Floats largest, const Reduced& to, std::int64_t index) {
  std::uint8_t* bytes = to.bytes + index * to.byte_stride;
  if (to.bf16) return round_to_bf16<Lanes>(row, width, bytes);
  to.scale[index] = scale_of<Lanes>(largest, to.range);
  quantize_by<Lanes>(to.scale[index], row, width, to.range.zero_point, bytes);
}

template <class Lanes>
void reduce(const ReduceArgs& args) {
  const bool symmetric = args.to.range.floor < 0.0f;
  for (std::int64_t r = 0; r < args.num_rows; ++r) {
    const float* row = args.rows + r * args.stride;
    auto largest = Lanes::broadcast(0.0f);
    for (int i = 0; i < args.width && !args.to.bf16; i += kLanes) {
      const auto x = Lanes::load(row + i);
      largest = Lanes::larger(symmetric ? Lanes::magnitude(x) : x, largest);
    }
    write_reduced<Lanes>(row, args.width, largest, args.to, r);
  }
}

template <class Lanes, int R>
void norm_rows(const NormArgs& args, int first) {
  const int width = args.width;
  const std::int64_t stride = args.stride;
  float* rows = args.rows + first * stride;
  const auto zero = Lanes::broadcast(0.0f);
  typename Lanes::Floats sums[R], mean[R], factor[R], largest[R];
  unroll<R>([&](auto r) PORTABERT_INLINE { sums[r] = zero; });
  for (int i = 0; i < width; i += kLanes)
    unroll<R>([&](auto r) PORTABERT_INLINE { sums[r] = Lanes::add(sums[r], Lanes::load(rows + r * stride + i)); });
  unroll<R>([&](auto r) PORTABERT_INLINE {
    mean[r] = Lanes::broadcast(Lanes::sum(sums[r]) / static_cast<float>(width));
    sums[r] = zero;
  });
  for (int i = 0; i < width; i += kLanes)
    unroll<R>([&](auto r) PORTABERT_INLINE {
      auto apart = Lanes::subtract(Lanes::load(rows + r * stride + i), mean[r]);
      if (width - i < kLanes) apart = Lanes::multiply(apart, Lanes::load(kFilled + kLanes - (width - i)));
      sums[r] = Lanes::multiply_add(apart, apart, sums[r]);
    });
  unroll<R>([&](auto r) PORTABERT_INLINE {
    const float variance = Lanes::sum(sums[r]) / static_cast<float>(width);
    factor[r] = Lanes::broadcast(1.0f / std::sqrt(variance + args.epsilon));
    largest[r] = zero;
  });
  for (int i = 0; i < width; i += kLanes) {
    const auto weight = Lanes::load(args.weight + i), bias = Lanes::load(args.bias + i);
    unroll<R>([&](auto r) PORTABERT_INLINE {
      float* at = rows + r * stride + i;
      const auto apart = Lanes::multiply(Lanes::subtract(Lanes::load(at), mean[r]), factor[r]);
      const auto found = Lanes::multiply_add(apart, weight, bias);
      Lanes::store(at, found);
      largest[r] = Lanes::larger(Lanes::magnitude(found), largest[r]);
    });
  }
  unroll<R>([&](auto r) PORTABERT_INLINE { write_reduced<Lanes>(rows + r * stride, width, largest[r], args.to, first + r); });
}

// The rows it gives are reduced symmetrically.
template <class Lanes>
void norm(const NormArgs& args) {
  in_groups<Lanes::kAbreast>(args.num_rows, [&](auto n, int first) { norm_rows<Lanes, n>(args, first); });
}

}  // namespace
}  // namespace portabert
