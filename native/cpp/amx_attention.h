// Attention (attention.h) in AMX's tiles, 16 queries at a time. Columns of a product are pairs, as in a panel of weights:
//
//     keys     for each 16 keys and 32 numbers of the head    (16 pairs of numbers, 16 keys, 2)
//     values   for each 32 keys and 16 numbers of the head    (16 pairs of keys, 16 numbers, 2)
//
//     scores (16 queries, keys)  =  bias + queries (16, 32 numbers)  ·  keys       queries are read where they lie
//     out (16 queries, 16 numbers)  =  shares (16, 32 keys)  ·  values
//
// Both are padded with zeros: whatever stands in a query behind its head, or in the rows behind the last query, is multiplied by zero or thrown away.

#pragma once

#include <algorithm>

#include "attention.h"

namespace portabert {
namespace {

template <class Lanes, class Tiles>
class TiledAttention {
 public:
  explicit TiledAttention(const AttendArgs& args)
      : args_(args),
        head_(padded(args.head_size, kSummed)),
        keys_(padded(args.num_keys, kSummed)),
        key_tiles_(reinterpret_cast<std::uint16_t*>(args.scratch)),
        value_tiles_(key_tiles_ + std::int64_t{head_} * keys_),
        shares_(value_tiles_ + std::int64_t{head_} * keys_),
        scores_(reinterpret_cast<float*>(shares_ + kRows * keys_)) {}

  void run() const {
    pack();
    for (int query = 0; query < args_.num_queries; query += kRows) attend_queries(query);
  }

 private:
  static constexpr int kRows = 16, kRowBytes = 64, kTile = kRows * kSummed;

  // Where the tile of 16 keys and 32 numbers, or of 16 numbers and 32 keys, begins.
  std::uint16_t* key_tile(int key, int number) const { return key_tiles_ + std::int64_t{key} * head_ + number * kRows; }
  std::uint16_t* value_tile(int number, int key) const { return value_tiles_ + std::int64_t{number} * keys_ + key * kRows; }

  void pack() const {
    for (int key = 0; key < args_.num_keys; key += kRows)
      for (int number = 0; number < args_.head_size; number += kSummed)
        Lanes::transpose_pairs(args_.key + std::int64_t{key} * args_.key_stride + number, args_.key_stride, std::min(args_.num_keys - key, kRows),
                               args_.head_size - number, key_tile(key, number));
    for (int key = 0; key < keys_; key += 2) {
      const std::uint16_t* first = args_.value + std::int64_t{key} * args_.key_stride;
      const std::uint16_t *even = key < args_.num_keys ? first : nullptr, *odd = key + 1 < args_.num_keys ? first + args_.key_stride : nullptr;
      for (int number = 0; number < args_.head_size; number += kLanes)
        Lanes::zip(even ? even + number : nullptr, odd ? odd + number : nullptr, value_tile(number, key / kSummed * kSummed) + key % kSummed * kLanes);
    }
  }

  void attend_queries(int query) const {
    const int num_queries = std::min(args_.num_queries - query, kRows), keys = padded(args_.num_keys, kRows);
    const std::uint16_t* queries = args_.query + std::int64_t{query} * args_.query_stride;
    for (int key = 0; key < keys; key += kRows) {
      if (args_.bias) {
        alignas(64) float bias[kRows][kLanes] = {};
        for (int row = 0; row < num_queries; ++row) Lanes::store(bias[row], Lanes::load(args_.bias - (query + row) + key));
        Tiles::template load<0>(bias, kRowBytes);
      } else {
        Tiles::template zero<0>();
      }
      for (int number = 0; number < args_.head_size; number += kSummed) {
        Tiles::template load<4>(queries + number, std::int64_t{args_.query_stride} * 2);
        Tiles::template load<6>(key_tile(key, number), kRowBytes);
        Tiles::template dot_bf16<0, 4, 6>();
      }
      Tiles::template store<0>(scores_ + key, std::int64_t{keys_} * 4);
    }
    float factors[kRows];
    for (int row = 0; row < num_queries; ++row) {
      std::uint16_t* shares = shares_ + std::int64_t{row} * keys_;
      factors[row] = exponentiate<Lanes>(scores_ + std::int64_t{row} * keys_, args_.num_keys, shares);
      std::fill(shares + keys, shares + keys_, std::uint16_t{0});
    }
    for (int number = 0; number < args_.head_size; number += kLanes) {
      alignas(64) float out[kRows][kLanes];
      Tiles::template zero<0>();
      for (int key = 0; key < keys_; key += kSummed) {
        Tiles::template load<4>(shares_ + key, std::int64_t{keys_} * 2);
        Tiles::template load<6>(value_tile(number, key), kRowBytes);
        Tiles::template dot_bf16<0, 4, 6>();
      }
      Tiles::template store<0>(out, kRowBytes);
      for (int row = 0; row < num_queries; ++row)
        store_some<Lanes>(args_.out + std::int64_t{query + row} * args_.out_stride + number,
                          Lanes::multiply(Lanes::load(out[row]), Lanes::broadcast(factors[row])), args_.head_size - number);
    }
  }

  const AttendArgs& args_;
  const int head_, keys_;  // padded
  std::uint16_t *key_tiles_, *value_tiles_, *shares_;
  float* scores_;
};

template <class Lanes, class Tiles>
void attend_amx(const AttendArgs& args) {
  Tiles::begin();
  TiledAttention<Lanes, Tiles>(args).run();
  Tiles::end();
}

}  // namespace
}  // namespace portabert
