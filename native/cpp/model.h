// An encoder's weights, as they lie in somebody's memory, and the checks that they are all there.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels.h"
#include "portabert.h"
#include "refused.h"

namespace portabert {

// An embedding table (rows, width padded to 16): int8 with a scale a row, bf16, or floats.
struct Table {
  int stride = 0;
  const std::int8_t* int8 = nullptr;
  const float* scale = nullptr;
  const std::uint16_t* bf16 = nullptr;
  const float* exact = nullptr;

  TableRow row(std::int64_t index) const {
    if (exact) return {nullptr, 0.0f, nullptr, exact + index * stride};
    if (bf16) return {nullptr, 0.0f, bf16 + index * stride, nullptr};
    return {int8 + index * stride, scale[index], nullptr, nullptr};
  }
};

struct Norm {
  const float* weight = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;  // what its output is multiplied by as a residual; null for nothing
  float epsilon = 0.0f;
};

struct Layer {
  Product query_key_value;   // of all but a last layer whose first tokens alone are wanted
  Product key_value, query;  // of that
  Product output, up, down;
  Norm attention_norm, norm;
  bool first_only = false;
};

struct Step {
  Product product;
  Activation activation = Activation::none;
};

class Model {
 public:
  // Throws Refused if the shape is none that an encoder can have.
  explicit Model(const portabert_shape& shape);

  // Takes a tensor. Throws Refused if it is not part of such a model, has other bytes, or is not aligned.
  void set(const std::string& name, const void* data, std::uint64_t bytes);

  // Throws Refused, naming all tensors that are still missing.
  void finish();

  // A tensor this model has: where its address goes, and how many bytes it must have.
  struct Slot {
    const void** address;
    std::uint64_t bytes;
    bool optional;
  };
  const std::map<std::string, Slot, std::less<>>& slots() const { return slots_; }

  int inner() const { return shape.heads * shape.head_size; }  // the width of queries, keys and values
  int num_labels() const { return shape.step_width[shape.steps - 1]; }

  portabert_shape shape;
  Table words, positions;
  Norm embedding_norm;
  Product projection;  // its width is 0 where there is none
  const float* relative_bias = nullptr;  // (heads, relative_stride); query at i and key at j: column j − i + max_length − 1
  int relative_stride = 0;
  std::vector<Layer> layers;
  std::vector<Step> head;
  bool ready = false;

 private:
  template <class Number>
  void expect(const std::string& name, const Number** address, std::int64_t count, bool optional = false) {
    // Pointers to const are alike in memory, whatever they point to.
    slots_[name] = {reinterpret_cast<const void**>(address), static_cast<std::uint64_t>(count) * sizeof(Number), optional};
  }
  void expect_table(const std::string& name, Table& table, std::int64_t rows, int width);
  void expect_norm(const std::string& name, Norm& norm, int width);
  void expect_product(const std::string& name, Product& product, int depth, int width, bool only_exact = false);

  std::map<std::string, Slot, std::less<>> slots_;
  const float* epsilons_ = nullptr;
};

}  // namespace portabert
