// A model of random shape and random tensors, through the C interface alone.

#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "portabert.h"

struct RandomModel {
  portabert_shape shape{};
  std::map<std::string, std::vector<char>> tensors;

  explicit RandomModel(unsigned seed) : random(seed) {
    shape.vocabulary = pick(1, 60);
    shape.max_length = pick(1, 50);
    shape.padding_idx = pick(0, 1) ? -1 : pick(0, 3);
    shape.positions = shape.max_length + shape.padding_idx + 1;
    shape.types = pick(1, 2);
    // Whole blocks of 64, for a file's padding must be zeros, and here all is random. The tests in Python have ragged widths.
    shape.hidden = 64 * pick(1, 3);
    shape.embedding = pick(0, 2) ? shape.hidden : 64 * pick(1, 3);
    const int heads = 1 << pick(0, 5);
    shape.heads = heads * pick(1, 3);
    shape.head_size = 64 / heads;
    shape.intermediate = 64 * pick(1, 4);
    shape.layers = pick(1, 3);
    shape.precision = pick(0, 2) == 0;
    shape.activation = pick(1, 3);
    shape.zero_point = shape.activation == 3 ? 0 : 24;
    shape.floor = shape.activation == 3 ? 1e-20f : 0.0071f;
    shape.relative = pick(0, 1);
    shape.per_token = pick(0, 1);
    shape.steps = pick(1, 2);
    for (int i = 0; i < shape.steps; ++i) shape.step_width[i] = 16 * pick(1, 3), shape.step_activation[i] = pick(0, 4);
  }

  int pick(int least, int most) { return std::uniform_int_distribution<int>(least, most)(random); }

  // Sets a random form of every weight; the first call draws the tensors, later ones take them again.
  bool fill(portabert_model* model) {
    const bool draw = tensors.empty();
    const bool exact = draw && pick(0, 1);
    const char* name;
    std::uint64_t bytes;
    std::int32_t optional;
    std::map<std::string, std::uint64_t> wanted;
    for (int i = 0; draw && !portabert_tensor(model, i, &name, &bytes, &optional); ++i) wanted[name] = bytes;
    for (const auto& [wanted_name, wanted_bytes] : wanted) {
      const std::string_view view = wanted_name;
      const std::string plain = wanted_name.substr(0, wanted_name.rfind('_'));
      const bool of_reduced = view.ends_with("_bf16") || view.ends_with("_int8") || (wanted.count(plain + "_int8") && (view.ends_with("_scale") || view.ends_with("_sum")));
      const bool has_reduced = wanted.count(wanted_name + "_int8") || wanted.count(wanted_name + "_bf16");
      if ((of_reduced && exact) || (has_reduced && !exact)) continue;
      std::normal_distribution<float> normal;
      std::vector<char>& tensor = tensors[wanted_name];
      tensor.resize(wanted_bytes);
      if (view.ends_with("_int8")) {
        for (char& byte : tensor) byte = static_cast<char>(pick(-127, 127));
      } else if (view.ends_with("_bf16")) {
        for (std::size_t at = 0; at < tensor.size(); at += 2) put(tensor, at, upper_half(normal(random) * 0.3f));
      } else if (view.ends_with("_sum")) {
        sum_columns(tensors.at(plain + "_int8"), tensor);  // drawn before it: names come in order
      } else {
        const float size = view.ends_with("_scale") ? 1e-3f : 0.3f;
        for (std::size_t at = 0; at < tensor.size(); at += 4)
          put(tensor, at, view == "epsilons" ? 1e-5f : normal(random) * size);
      }
    }
    for (const auto& [set_name, tensor] : tensors)
      if (portabert_set(model, set_name.c_str(), tensor.data(), tensor.size())) return false;
    return !portabert_ready(model);
  }

  std::mt19937 random;

 private:
  static std::uint16_t upper_half(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>(bits >> 16);
  }

  // Of panels (width / 16, depth / 4, 16, 4).
  static void sum_columns(const std::vector<char>& panels, std::vector<char>& sums) {
    const std::size_t width = sums.size() / 4, depth = panels.size() / width;
    for (std::size_t column = 0; column < width; ++column) {
      std::int32_t sum = 0;
      for (std::size_t k = 0; k < depth; ++k)
        sum += static_cast<signed char>(panels[(column / 16 * depth / 4 + k / 4) * 64 + column % 16 * 4 + k % 4]);
      put(sums, column * 4, sum);
    }
  }

  template <class Number>
  static void put(std::vector<char>& tensor, std::size_t at, Number value) {
    std::memcpy(tensor.data() + at, &value, sizeof value);
  }
};
