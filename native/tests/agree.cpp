// agree [models] [first seed]
//
// Random models and texts: every instruction set of this processor gives the bits of the scalar reference (AMX, whose products of bf16 add in another order, in a model of bf16 those
// of its own), whatever the threads and however they share the work. For processors on which there is no Python (an emulated aarch64), and for sanitizers.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "portabert.h"
#include "random_model.h"

namespace {

std::vector<float> compute(RandomModel& random, const char* instruction_set, int threads, int together, const std::vector<std::int64_t>& ids,
                           const std::vector<std::int64_t>& types, const std::vector<std::int32_t>& starts) {
  portabert_model* model = portabert_open(&random.shape, instruction_set, threads);
  const std::size_t rows = random.shape.per_token ? ids.size() : starts.size() - 1;
  std::vector<float> logits(rows * random.shape.step_width[random.shape.steps - 1]);
  const bool done = model && random.fill(model) &&
                    !portabert_run(model, ids.data(), types.data(), starts.data(), static_cast<int>(starts.size()) - 1, together, logits.data(),
                                   logits.size());
  if (!done) std::printf("refused: %s\n", portabert_error()), std::exit(1);
  portabert_close(model);
  return logits;
}

}  // namespace

int main(int count, char** arguments) {
  const int models = count > 1 ? std::atoi(arguments[1]) : 100, first = count > 2 ? std::atoi(arguments[2]) : 0;
  for (int seed = first; seed < first + models; ++seed) {
    RandomModel random(seed);
    std::vector<std::int64_t> ids, types;
    std::vector<std::int32_t> starts{0};
    for (int text = random.pick(1, 12); text > 0; --text) {
      for (int token = random.pick(1, random.shape.max_length); token > 0; --token) {
        ids.push_back(random.pick(0, random.shape.vocabulary - 1));
        types.push_back(random.pick(0, random.shape.types - 1));
      }
      starts.push_back(static_cast<std::int32_t>(ids.size()));
    }
    const std::vector<float> scalar = compute(random, "scalar", 1, 0, ids, types, starts);
    const std::vector<float> tiled = random.shape.precision ? compute(random, "amx-emulated", 1, 0, ids, types, starts) : scalar;
    std::istringstream names(portabert_instruction_sets());
    for (std::string name; names >> name;) {
      const std::vector<float>& expected = name.starts_with("amx") ? tiled : scalar;
      for (int threads = 1; threads <= 3; ++threads)
        for (int together = 0; together <= (threads > 1); ++together) {
          const std::vector<float> actual = compute(random, name.c_str(), threads, together, ids, types, starts);
          if (!std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float))) continue;
          std::printf("model %d: %s, %d threads%s, is not the reference\n", seed, name.c_str(), threads, together ? " together" : "");
          return 1;
        }
    }
  }
  std::printf("%d models agree to the bit on: %s\n", models, portabert_instruction_sets());
}
