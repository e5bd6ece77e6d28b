// Attention of one head of one text: softmax(query · keyᵀ + bias) · value, in floats. The 1/√size is in the query's weights.
//
//     keys (num_keys, size) → columns (size, num_keys padded)        transposed once, so that a lane is a key
//     for each four queries
//         scores (4, num_keys padded)   lanes are keys, 32 at a time
//         shares = e^(score − largest)  and their sum
//         out (4, size)                 lanes are the head's numbers, 32 at a time; divided by the sum

#pragma once

#include "functions.h"
#include "kernels.h"
#include "unroll.h"

namespace portabert {
namespace {

constexpr float kUnseen = -1e30f;  // added to scores of lanes beyond the last key

// Zeros, then kUnseen: from `16 − n` on, for a block that n keys fill.
alignas(64) constexpr float kBeyond[2 * kLanes] = {
    0,       0,       0,       0,       0,       0,       0,       0,       0,       0,       0,
    0,       0,       0,       0,       0,       kUnseen, kUnseen, kUnseen, kUnseen, kUnseen, kUnseen,
    kUnseen, kUnseen, kUnseen, kUnseen, kUnseen, kUnseen, kUnseen, kUnseen, kUnseen, kUnseen};

template <class Lanes>
void store_some(float* to, typename Lanes::Floats a, int count) {
  if (count >= kLanes) return Lanes::store(to, a);
  float lanes[kLanes];
  Lanes::store(lanes, a);
  for (int i = 0; i < count; ++i) to[i] = lanes[i];
}

template <class Lanes, int Q, int P>
void score(const AttendArgs& args, const float* columns, int query, int key, float* scores) {
  const std::int64_t stride = padded(args.num_keys, kLanes), query_stride = args.query_stride;
  const float* queries = args.query + query * query_stride;
  typename Lanes::Floats sums[Q][P];
  unroll<Q>([&](auto q) PORTABERT_INLINE {
    unroll<P>([&](auto p) PORTABERT_INLINE {
      // Beyond the last key stands what belongs to others; `exponentiate` covers it.
      sums[q][p] = args.bias ? Lanes::load(args.bias - (query + q) + key + p * kLanes) : Lanes::broadcast(0.0f);
    });
  });
  for (int i = 0; i < args.head_size; ++i) {
    typename Lanes::Floats keys[P];
    unroll<P>([&](auto p) PORTABERT_INLINE { keys[p] = Lanes::load(columns + i * stride + key + p * kLanes); });
    unroll<Q>([&](auto q) PORTABERT_INLINE {
      const auto value = Lanes::broadcast(queries[q * query_stride + i]);
      unroll<P>([&](auto p) PORTABERT_INLINE { sums[q][p] = Lanes::multiply_add(value, keys[p], sums[q][p]); });
    });
  }
  unroll<Q>([&](auto q) PORTABERT_INLINE {
    unroll<P>([&](auto p) PORTABERT_INLINE { Lanes::store(scores + q * stride + key + p * kLanes, sums[q][p]); });
  });
}

// Turns a row of scores into shares before they are divided by their sum; gives 1 / sum.
template <class Lanes>
float exponentiate(float* scores, int num_keys) {
  const int last = padded(num_keys, kLanes) - kLanes;
  const auto covered = Lanes::add(Lanes::load(scores + last), Lanes::load(kBeyond + kLanes - (num_keys - last)));
  Lanes::store(scores + last, covered);
  auto largest = covered;
  for (int i = 0; i < last; i += kLanes) largest = Lanes::larger(Lanes::load(scores + i), largest);
  const auto top = Lanes::broadcast(Lanes::largest(largest));
  auto sum = Lanes::broadcast(0.0f);
  for (int i = 0; i <= last; i += kLanes) {
    const auto share = exponential<Lanes>(Lanes::subtract(Lanes::load(scores + i), top));
    Lanes::store(scores + i, share);
    sum = Lanes::add(sum, share);
  }
  return 1.0f / Lanes::sum(sum);
}

template <class Lanes, int Q, int P>
void mix(const AttendArgs& args, const float* shares, const float* factors, int query, int column) {
  const std::int64_t stride = padded(args.num_keys, kLanes);
  typename Lanes::Floats sums[Q][P];
  unroll<Q>([&](auto q) PORTABERT_INLINE {
    unroll<P>([&](auto p) PORTABERT_INLINE { sums[q][p] = Lanes::broadcast(0.0f); });
  });
  for (int key = 0; key < args.num_keys; ++key) {
    const float* value = args.value + std::int64_t{key} * args.key_stride + column;
    typename Lanes::Floats values[P];
    unroll<P>([&](auto p) PORTABERT_INLINE { values[p] = Lanes::load(value + p * kLanes); });
    unroll<Q>([&](auto q) PORTABERT_INLINE {
      const auto share = Lanes::broadcast(shares[q * stride + key]);
      unroll<P>([&](auto p) PORTABERT_INLINE { sums[q][p] = Lanes::multiply_add(share, values[p], sums[q][p]); });
    });
  }
  unroll<Q>([&](auto q) PORTABERT_INLINE {
    const auto factor = Lanes::broadcast(factors[q]);
    float* out = args.out + std::int64_t{query + q} * args.out_stride + column;
    unroll<P>([&](auto p) PORTABERT_INLINE {
      store_some<Lanes>(out + p * kLanes, Lanes::multiply(sums[q][p], factor), args.head_size - column - p * kLanes);
    });
  });
}

template <class Lanes, int Q>
void attend_queries(const AttendArgs& args, const float* columns, float* scores, int query) {
  const int stride = padded(args.num_keys, kLanes);
  int key = 0;
  for (; key + 2 * kLanes <= stride; key += 2 * kLanes) score<Lanes, Q, 2>(args, columns, query, key, scores);
  if (key < stride) score<Lanes, Q, 1>(args, columns, query, key, scores);
  float factors[Q];
  for (int q = 0; q < Q; ++q) factors[q] = exponentiate<Lanes>(scores + std::int64_t{q} * stride, args.num_keys);
  int column = 0;
  for (; column + kLanes < args.head_size; column += 2 * kLanes) mix<Lanes, Q, 2>(args, scores, factors, query, column);
  if (column < args.head_size) mix<Lanes, Q, 1>(args, scores, factors, query, column);
}

template <class Lanes>
void attend(const AttendArgs& args) {
  const int stride = padded(args.num_keys, kLanes);
  float* columns = args.scratch;
  float* scores = columns + std::int64_t{args.head_size} * stride;
  for (int key = 0; key < stride; ++key) {
    const float* from = args.key + std::int64_t{key} * args.key_stride;
    for (int i = 0; i < args.head_size; ++i) columns[std::int64_t{i} * stride + key] = key < args.num_keys ? from[i] : 0.0f;
  }
  int query = 0;
  for (; query + kQueryBlock <= args.num_queries; query += kQueryBlock)
    attend_queries<Lanes, kQueryBlock>(args, columns, scores, query);
  for (; query < args.num_queries; ++query) attend_queries<Lanes, 1>(args, columns, scores, query);
}

}  // namespace
}  // namespace portabert
