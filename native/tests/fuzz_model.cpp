// libFuzzer: shapes, tensors and texts that nobody checked, through the C interface. Whatever comes, it answers or refuses.

#include <cstdint>
#include <vector>

#include "portabert.h"
#include "reader.h"

namespace {

constexpr std::uint64_t kMostBytes = 1 << 20;  // of a tensor: larger shapes are opened and not filled

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader{data, size};
  portabert_shape shape;
  reader.fill(&shape, sizeof shape, 24);
  const auto choice = reader.take<std::uint8_t>();
  portabert_model* model = portabert_open(&shape, choice & 1 ? "scalar" : "", choice >> 1 & 3);
  if (!model) return 0;
  std::vector<std::vector<std::uint8_t>> tensors;
  const char* name;
  std::uint64_t bytes;
  std::int32_t optional;
  for (int i = 0; !portabert_tensor(model, i, &name, &bytes, &optional) && bytes <= kMostBytes; ++i) {
    const auto how = reader.take<std::uint8_t>();
    if (how % 4 == 0 && optional) continue;
    std::vector<std::uint8_t>& tensor = tensors.emplace_back(how == 255 ? bytes / 2 : bytes);
    for (std::size_t at = 0; at < tensor.size(); ++at) tensor[at] = at < 64 ? reader.take<std::uint8_t>() : tensor[at - 64];
    portabert_set(model, name, tensor.data(), tensor.size());
  }
  portabert_ready(model);
  std::vector<std::int64_t> ids, types;
  std::vector<std::int32_t> starts{0};
  for (int text = reader.take<std::uint8_t>() % 6; text > 0; --text) {
    for (int token = reader.take<std::uint8_t>() % 30; token > 0; --token) {
      ids.push_back(reader.take<std::int8_t>());
      types.push_back(reader.take<std::int8_t>() % 4);
    }
    starts.push_back(static_cast<std::int32_t>(ids.size()));
  }
  std::vector<float> logits(4096);
  const std::int64_t labels = shape.step_width[shape.steps - 1];
  const std::uint64_t count = static_cast<std::uint64_t>((shape.per_token ? ids.size() : starts.size() - 1) * labels);
  ids.reserve(1), types.reserve(1);
  portabert_run(model, ids.data(), types.data(), starts.data(), static_cast<int>(starts.size()) - 1, choice >> 3 & 1, logits.data(),
                count <= logits.size() ? count : 0);
  portabert_close(model);
  return 0;
}
