#include "model.h"

namespace portabert {

namespace {

constexpr int kLargest = 1 << 16;  // of widths; 65,536 · 255 · 127 is still an int32
constexpr int kMostRows = 1 << 24;
constexpr int kBf16 = 1;  // portabert_shape's number for it

struct Limit {
  const char* name;
  std::int64_t value, least, most;
};

}  // namespace

Model::Model(const portabert_shape& given) : shape(given) {
  const int steps = shape.steps;
  for (const Limit& limit : {Limit{"vocabulary", shape.vocabulary, 1, kMostRows},
                             {"positions", shape.positions, 1, kMostRows},
                             {"types", shape.types, 1, 16},
                             {"max_length", shape.max_length, 1, kLargest},
                             {"padding_idx", shape.padding_idx, -1, kMostRows},
                             {"embedding", shape.embedding, 1, kLargest},
                             {"hidden", shape.hidden, 1, kLargest},
                             {"heads", shape.heads, 1, 1024},
                             {"head_size", shape.head_size, 1, 1024},
                             {"intermediate", shape.intermediate, 1, kLargest},
                             {"layers", shape.layers, 1, 1024},
                             {"precision", shape.precision, 0, 1},
                             {"activation", shape.activation, 1, 3},
                             {"zero_point", shape.zero_point, 0, 128},
                             {"relative", shape.relative, 0, 1},
                             {"per_token", shape.per_token, 0, 1},
                             {"steps", steps, 1, PORTABERT_MAX_STEPS}})
    if (limit.value < limit.least || limit.value > limit.most)
      throw Refused(limit.name, " must be between ", limit.least, " and ", limit.most, ". Got ", limit.value, " instead");
  if (inner() > kLargest) throw Refused("heads · head_size must be at most 65536");
  if (shape.max_length + shape.padding_idx + 1 > shape.positions)
    throw Refused("texts of max_length tokens need ", shape.max_length + shape.padding_idx + 1, " positions. There are ",
                  shape.positions);

  expect_table("words", words, shape.vocabulary, shape.embedding);
  expect_table("positions", positions, std::int64_t{shape.positions} * shape.types, shape.embedding);
  expect_norm("embedding_norm", embedding_norm, shape.embedding);
  if (shape.embedding != shape.hidden)
    expect_product("projection", projection, shape.embedding, shape.hidden);
  if (shape.relative) {
    relative_stride = 2 * shape.max_length - 1 + kLanes;  // lanes beyond the last key are read, too
    expect("relative_bias", &relative_bias, std::int64_t{shape.heads} * relative_stride);
  }
  expect("epsilons", &epsilons_, 1 + 2 * shape.layers);
  layers.resize(shape.layers);
  for (int i = 0; i < shape.layers; ++i) {
    Layer& layer = layers[i];
    const std::string name = "layer_" + std::to_string(i);
    layer.first_only = i == shape.layers - 1 && !shape.per_token;
    if (layer.first_only) {
      expect_product(name + "_key_value", layer.key_value, shape.hidden, 2 * inner());
      expect_product(name + "_query", layer.query, shape.hidden, inner());
    } else {
      expect_product(name + "_query_key_value", layer.query_key_value, shape.hidden, 3 * inner());
    }
    expect_product(name + "_output", layer.output, inner(), shape.hidden);
    expect_norm(name + "_attention_norm", layer.attention_norm, shape.hidden);
    expect_product(name + "_up", layer.up, shape.hidden, shape.intermediate);
    expect_product(name + "_down", layer.down, shape.intermediate, shape.hidden);
    expect_norm(name + "_norm", layer.norm, shape.hidden);
  }
  head.resize(steps);
  for (int i = 0, depth = shape.hidden; i < steps; ++i) {
    const int width = shape.step_width[i], activation = shape.step_activation[i];
    if (width < 1 || width > kLargest || activation < 0 || activation > 4)
      throw Refused("the head's widths must be between 1 and 65536, its activations between 0 and 4");
    head[i].activation = static_cast<Activation>(activation);
    expect_product("head_" + std::to_string(i), head[i].product, depth, width, true);
    depth = width;
  }
}

void Model::expect_table(const std::string& name, Table& table, std::int64_t rows, int width) {
  table.stride = padded(width, kLanes);
  expect(name, &table.exact, rows * table.stride, true);
  if (shape.precision == kBf16) return expect(name + "_bf16", &table.bf16, rows * table.stride, true);
  expect(name + "_int8", &table.int8, rows * table.stride, true);
  expect(name + "_scale", &table.scale, rows, true);
}

void Model::expect_norm(const std::string& name, Norm& norm, int width) {
  const int count = padded(width, kLanes);
  expect(name + "_weight", &norm.weight, count);
  expect(name + "_bias", &norm.bias, count);
  expect(name + "_residual", &norm.residual, count, true);
}

void Model::expect_product(const std::string& name, Product& product, int depth, int width, bool only_exact) {
  const std::int64_t count = padded(width, kLanes);
  product.depth = depth;
  product.width = width;
  expect(name + "_bias", &product.bias, count);
  expect(name, &product.exact, count * depth, !only_exact);
  if (only_exact) return;
  if (shape.precision == kBf16) return expect(name + "_bf16", &product.bf16, count * padded(depth, kDepth), true);
  expect(name + "_int8", &product.int8, count * padded(depth, kDepth), true);
  expect(name + "_scale", &product.scale, count, true);
  expect(name + "_sum", &product.sum, count, true);
}

void Model::set(const std::string& name, const void* data, std::uint64_t bytes) {
  const auto found = slots_.find(name);
  if (found == slots_.end()) throw Refused("'", name, "' is no tensor of such a model");
  const Slot& slot = found->second;
  if (bytes != slot.bytes)
    throw Refused("'", name, "' must have ", slot.bytes, " bytes. Got ", bytes, " instead");
  if (!data || reinterpret_cast<std::uintptr_t>(data) % alignof(float))
    throw Refused("'", name, "' must lie at a multiple of 4 bytes");
  *slot.address = data;
}

void Model::finish() {
  std::string missing;
  const auto miss = [&](const std::string& name) { missing.append(missing.empty() ? "" : ", ").append(name); };
  for (const auto& [name, slot] : slots_) {
    if (!slot.optional && !*slot.address) miss(name);
    // A weight has two forms: `name`, and `name_int8` with all that belongs to it, or `name_bf16`.
    const std::string_view ending = shape.precision == kBf16 ? "_bf16" : "_int8";
    if (!name.ends_with(ending)) continue;
    const std::string plain = name.substr(0, name.size() - ending.size());
    const bool exact = *slots_.at(plain).address, reduced = *slot.address;
    if (exact && reduced) throw Refused("'", plain, "' has two forms, and one is wanted");
    if (!exact && !reduced) miss(plain);
    for (const char* part : {"_scale", "_sum"})
      if (const auto belongs = slots_.find(plain + part); reduced && belongs != slots_.end() && !*belongs->second.address)
        miss(plain + part);
  }
  if (!missing.empty()) throw Refused("these tensors are missing: ", missing);
  embedding_norm.epsilon = epsilons_[0];
  for (std::size_t i = 0; i < layers.size(); ++i) {
    layers[i].attention_norm.epsilon = epsilons_[1 + 2 * i];
    layers[i].norm.epsilon = epsilons_[2 + 2 * i];
  }
  ready = true;
}

}  // namespace portabert
