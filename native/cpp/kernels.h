// What an encoder is computed from: the kernels of one instruction set, as a table of functions.
//
// Each kernels_*.cpp instantiates the same templates (rows.h, product.h, attention.h) for one instruction set and is compiled with its flags; encoder.cpp calls
// through the table and knows none of them. Floats are computed in lanes of 16, in an order that is the same everywhere, and every multiplication that is followed by
// an addition is fused: so all instruction sets give the same bits.

#pragma once

#include <cstdint>

namespace portabert {

constexpr int kLanes = 16;  // columns of floats are padded to multiples of it
constexpr int kDepth = 64;  // so are the bytes of a quantised row: what an AMX tile takes at once

// Where part number `index` of `parts` parts of like size begins; number `parts` is the end.
constexpr int part_begin(int count, int index, int parts) { return static_cast<int>(std::int64_t{count} * index / parts); }

constexpr int padded(int size, int multiple) { return (size + multiple - 1) / multiple * multiple; }

enum class Activation : std::int32_t { none = 0, gelu = 1, gelu_tanh = 2, relu = 3, tanh = 4 };

// A weight (depth, width), in one of three forms. Columns lie in panels of 16, and the bytes of a panel are in the order in which dot products of four read them, or of two:
//
//     int8    [width / 16][depth / 4][16][4]     panel, step, column, 4 numbers along the depth     64 bytes a step: a register, four of NEON's, a row of an AMX tile
//     bf16    [width / 16][depth / 2][16][2]     the same with 2 numbers; the upper halves of floats
//     exact   [width / 16][depth][16]            float
//
// Width is padded to 16 and depth to 64 (exact: not at all), with zeros.
struct Product {
  int depth = 0;
  int width = 0;
  const std::int8_t* int8 = nullptr;
  const float* scale = nullptr;       // (width,) of each column
  const std::int32_t* sum = nullptr;  // (width,) of each column's int8 numbers
  const std::uint16_t* bf16 = nullptr;
  const float* exact = nullptr;
  const float* bias = nullptr;  // (width,)

  int panels() const { return padded(width, kLanes) / kLanes; }
};

// Rows (n, depth) as floats, and as what products read: quantised, value = (byte − zero_point) · scale, or rounded to bf16.
struct Rows {
  const float* floats;
  int float_stride;
  const std::uint8_t* bytes;  // of a number each, or two of bf16
  int byte_stride;
  const float* scale;  // of each row
  int zero_point;
};

constexpr int kSpareRows = 32;  // that may be read behind the last one, whatever they hold

// How a row is quantised: by its largest magnitude, or, of an activation function that is bounded below, by its largest value.
struct Range {
  int zero_point = 128;
  float floor = -1.0f;  // the least scale; below zero where rows are symmetric
};

// Where rows go that products read: quantised, or rounded to bf16, and then there are no scales.
struct Reduced {
  std::uint8_t* bytes;
  int byte_stride;
  float* scale;
  Range range;
  bool bf16;
};

struct ReduceArgs {
  const float* rows;  // (num_rows, width)
  int stride;
  int num_rows, width;
  Reduced to;
};

// LayerNorm in place, of rows that are then reduced.
struct NormArgs {
  float* rows;
  int stride;
  int num_rows, width;
  const float *weight, *bias;
  float epsilon;
  Reduced to;
};

struct ProductArgs {
  const Product* product;
  Rows rows;
  int num_rows;
  int panel_begin, panel_end;  // the columns to compute, in panels
  float* out;                  // (num_rows, width), of all columns
  std::uint16_t* out_bf16;     // or this, rounded to bf16
  int out_stride;
  const float* residual;  // added, where it is not null; may be `out`
  int residual_stride;
  const float* factors;  // (width,) what the residual is multiplied by, where it is not null
  Activation activation;
};

// Attention's products are of bf16, and add as AMX's tiles do: the products of 32 pairs of numbers, those at even places one after the other from zero, those at odd
// places likewise; both together are added to the sum of what came before.
constexpr int kSummed = 32;

struct AttendArgs {
  const std::uint16_t *query, *key, *value;  // bf16, of one head, of one text; kSpareRows and a head may be read behind the last token's
  int query_stride, key_stride;      // between tokens; the value's is the key's
  int num_queries, num_keys, head_size;
  const float* bias;  // of query 0 and key 0, added to scores; of query i it begins i before; null where there is none
  float* out;
  int out_stride;
  float* scratch;  // attend_scratch(…) floats
};

// Keys and values as a kernel likes them best, and the scores and shares of 16 queries.
constexpr std::int64_t attend_scratch(int num_keys, int head_size) {
  return (std::int64_t{2} * padded(head_size, kSummed) + 2 * kLanes) * padded(num_keys, kSummed) + kLanes * padded(head_size, kSummed);
}

// A row of an embedding table: int8 with a scale, bf16, or floats.
struct TableRow {
  const std::int8_t* int8;
  float scale;
  const std::uint16_t* bf16;
  const float* exact;
};

struct Kernels {
  const char* name;
  int tile_rows;  // that a product computes at a time
  void (*embed)(TableRow word, TableRow position, int width, float* out);
  void (*norm)(const NormArgs& args);
  void (*reduce)(const ReduceArgs& args);
  void (*multiply)(const ProductArgs& args);
  void (*attend)(const AttendArgs& args);
};

// Each is compiled in where its architecture is; instruction_sets.cpp says which can run.
extern const Kernels kScalarKernels, kAmxEmulatedKernels;
extern const Kernels kAvx2Kernels, kAvxVnniKernels, kAvx512Of256Kernels, kAvx512Kernels, kAvx512Bf16Kernels, kAmxKernels;
extern const Kernels kNeonKernels, kI8mmKernels;

}  // namespace portabert
