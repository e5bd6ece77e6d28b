// Attention of one head of one text: softmax(query · keyᵀ + bias) · value. The 1/√size is in the query's weights. Products are of bf16, exponentials and sums of floats.
//
//     keys (num_keys, size) → columns (size, num_keys padded)        transposed once, so that a lane is a key
//     for some queries
//         scores (queries, num_keys padded)   lanes are keys
//         shares = e^(score − largest)        and their sum; then rounded to bf16
//         out (queries, size)                 lanes are the head's numbers; divided by the sum
//
// What is bf16 is widened to floats here; amx_attention.h multiplies the same numbers in the same order in tiles.

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

// Turns a row of scores into shares before they are divided by their sum, in bf16; gives 1 / sum.
template <class Lanes>
float exponentiate(float* scores, int num_keys, std::uint16_t* shares) {
  const int last = padded(num_keys, kLanes) - kLanes;
  const auto covered = Lanes::add(Lanes::load(scores + last), Lanes::load(kBeyond + kLanes - (num_keys - last)));
  Lanes::store(scores + last, covered);
  auto largest = covered;
  for (int i = 0; i < last; i += kLanes) largest = Lanes::larger(Lanes::load(scores + i), largest);
  const auto top = Lanes::broadcast(Lanes::largest(largest));
  auto sum = Lanes::broadcast(0.0f);
  for (int i = 0; i <= last; i += kLanes) {
    const auto share = exponential<Lanes>(Lanes::subtract(Lanes::load(scores + i), top));
    Lanes::store_bf16(shares + i, share);
    sum = Lanes::add(sum, share);
  }
  return 1.0f / Lanes::sum(sum);
}

// Adds rows (Q, depth) · columns (depth, P · 16) to sums, in the order of kSummed.
template <class Lanes, int Q, int P>
void add_products(const float* rows, std::int64_t row_stride, const float* columns, std::int64_t column_stride, int depth,
                  typename Lanes::Floats (&sums)[Q][P]) {
  for (int begin = 0; begin < depth; begin += kSummed) {
    const int end = begin + kSummed < depth ? begin + kSummed : depth;
    typename Lanes::Floats both[2][Q][P];  // of even places, and of odd ones
    unroll<2 * Q * P>([&](auto i) PORTABERT_INLINE { both[i / (Q * P)][i / P % Q][i % P] = Lanes::broadcast(0.0f); });
    const auto add_place = [&](auto odd, int place) PORTABERT_INLINE {
      typename Lanes::Floats column[P];
      unroll<P>([&](auto p) PORTABERT_INLINE { column[p] = Lanes::load(columns + place * column_stride + p * kLanes); });
      unroll<Q>([&](auto q) PORTABERT_INLINE {
        const auto value = Lanes::broadcast(rows[q * row_stride + place]);
        unroll<P>([&](auto p) PORTABERT_INLINE { both[odd][q][p] = Lanes::multiply_add(value, column[p], both[odd][q][p]); });
      });
    };
    int place = begin;
    for (; place + 1 < end; place += 2) {
      add_place(Index<0>{}, place);
      add_place(Index<1>{}, place + 1);
    }
    if (place < end) add_place(Index<0>{}, place);
    unroll<Q>([&](auto q) PORTABERT_INLINE {
      unroll<P>([&](auto p) PORTABERT_INLINE { sums[q][p] = Lanes::add(sums[q][p], Lanes::add(both[0][q][p], both[1][q][p])); });
    });
  }
}

// Attention of one head of one text, after its keys and values were widened.
template <class Lanes>
class Attention {
 public:
  explicit Attention(const AttendArgs& args)
      : args_(args),
        head_(padded(args.head_size, kSummed)),
        stride_(padded(args.num_keys, kSummed)),
        columns_(args.scratch),
        values_(columns_ + head_ * stride_),
        queries_(values_ + head_ * stride_),
        shared_(queries_ + Lanes::kQueries * head_),
        shares_(reinterpret_cast<std::uint16_t*>(shared_ + Lanes::kQueries * stride_)) {}

  void run() const {
    float row[kLanes];
    for (int key = 0; key < padded(args_.num_keys, kLanes); ++key) {
      const bool seen = key < args_.num_keys;
      const std::int64_t from = std::int64_t{key} * args_.key_stride;
      for (int i = 0; i < args_.head_size; i += kLanes) {
        Lanes::store(row, seen ? Lanes::from_bf16(args_.key + from + i) : Lanes::broadcast(0.0f));
        for (int j = 0; j < kLanes; ++j) columns_[(i + j) * stride_ + key] = row[j];
        if (seen) Lanes::store(values_ + key * head_ + i, Lanes::from_bf16(args_.value + from + i));
      }
    }
    int query = 0;
    for (; query + Lanes::kQueries <= args_.num_queries; query += Lanes::kQueries) attend_queries<Lanes::kQueries>(query);
    for (; query < args_.num_queries; ++query) attend_queries<1>(query);
  }

 private:
  template <int Q>
  void attend_queries(int query) const {
    for (int q = 0; q < Q; ++q)
      for (int i = 0; i < args_.head_size; i += kLanes)
        Lanes::store(queries_ + q * head_ + i, Lanes::from_bf16(args_.query + std::int64_t{query + q} * args_.query_stride + i));
    const int keys = padded(args_.num_keys, kLanes);
    int key = 0;
    for (; key + Lanes::kKeyLanes * kLanes <= keys; key += Lanes::kKeyLanes * kLanes) score<Q, Lanes::kKeyLanes>(query, key);
    for (; key < keys; key += kLanes) score<Q, 1>(query, key);
    float factors[Q];
    for (int q = 0; q < Q; ++q) {
      float* shared = shared_ + q * stride_;
      factors[q] = exponentiate<Lanes>(shared, args_.num_keys, shares_);
      for (int i = 0; i < keys; i += kLanes) Lanes::store(shared + i, Lanes::from_bf16(shares_ + i));
    }
    int column = 0;
    for (; column + Lanes::kKeyLanes * kLanes <= padded(args_.head_size, kLanes); column += Lanes::kKeyLanes * kLanes)
      mix<Q, Lanes::kKeyLanes>(factors, query, column);
    for (; column < args_.head_size; column += kLanes) mix<Q, 1>(factors, query, column);
  }

  template <int Q, int P>
  void score(int query, int key) const {
    typename Lanes::Floats sums[Q][P];
    unroll<Q>([&](auto q) PORTABERT_INLINE {
      unroll<P>([&](auto p) PORTABERT_INLINE {
        // Beyond the last key stands what belongs to others; `exponentiate` covers it.
        sums[q][p] = args_.bias ? Lanes::load(args_.bias - (query + q) + key + p * kLanes) : Lanes::broadcast(0.0f);
      });
    });
    add_products<Lanes, Q, P>(queries_, head_, columns_ + key, stride_, args_.head_size, sums);
    unroll<Q>([&](auto q) PORTABERT_INLINE {
      unroll<P>([&](auto p) PORTABERT_INLINE { Lanes::store(shared_ + q * stride_ + key + p * kLanes, sums[q][p]); });
    });
  }

  template <int Q, int P>
  void mix(const float (&factors)[Q], int query, int column) const {
    typename Lanes::Floats sums[Q][P];
    unroll<Q * P>([&](auto i) PORTABERT_INLINE { sums[i / P][i % P] = Lanes::broadcast(0.0f); });
    add_products<Lanes, Q, P>(shared_, stride_, values_ + column, head_, args_.num_keys, sums);
    unroll<Q>([&](auto q) PORTABERT_INLINE {
      const auto factor = Lanes::broadcast(factors[q]);
      float* out = args_.out + std::int64_t{query + q} * args_.out_stride + column;
      unroll<P>([&](auto p) PORTABERT_INLINE {
        store_some<Lanes>(out + p * kLanes, Lanes::multiply(sums[q][p], factor), args_.head_size - column - p * kLanes);
      });
    });
  }

  const AttendArgs& args_;
  const std::int64_t head_, stride_;  // numbers between two rows
  float *columns_, *values_, *queries_;
  float* shared_;          // (queries, keys) scores, then shares
  std::uint16_t* shares_;  // of one query
};

template <class Lanes>
void attend(const AttendArgs& args) {
  Attention<Lanes>(args).run();
}

}  // namespace
}  // namespace portabert
