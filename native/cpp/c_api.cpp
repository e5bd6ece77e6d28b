#include "portabert.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

#include "encoder.h"
#include "instruction_sets.h"
#include "model.h"
#include "refused.h"
#include "team.h"

namespace {

using namespace portabert;

constexpr int kChunkTokens = 384;  // that one thread computes at a time: fewer read weights more often, more do not stay in its caches
constexpr int kMaxThreads = 1024;

// Cuts texts into chunks of like many tokens, at most `count` of them.
std::vector<Texts> cut(const Texts& texts, int count) {
  const std::int32_t* starts = texts.cu_seqlens;
  std::vector<Texts> chunks;
  Texts chunk = texts;
  for (int i = 1; chunk.begin < texts.end; ++i, chunk.begin = chunk.end) {
    const std::int64_t target = std::int64_t{texts.tokens()} * i / count;
    chunk.end = chunk.begin + 1;
    while (chunk.end < texts.end && std::int64_t{starts[chunk.end]} + starts[chunk.end + 1] <= 2 * target) ++chunk.end;
    chunks.push_back(chunk);
  }
  return chunks;
}

int num_chunks(const Texts& texts, int tokens) { return (texts.tokens() - 1) / tokens + 1; }

int longest(const Texts& texts) {
  int found = 0;
  for (int text = 0; text < texts.count(); ++text) found = std::max(found, texts.length(text));
  return found;
}

}  // namespace

struct portabert_model {
  portabert_model(const portabert_shape& shape, const Kernels& kernels, int threads)
      : model(shape), kernels(kernels), team(threads), spaces(threads) {}

  void check(const Texts& texts, std::uint64_t num_logits) const;
  void run_together(const Texts& texts, float* logits);
  void run_apart(const Texts& texts, float* logits);
  float* logits_of(const Texts& texts, float* logits) const;

  Model model;
  const Kernels& kernels;
  Team team;
  std::vector<Workspace> spaces;  // one a thread
  std::mutex one_call;
};

void portabert_model::check(const Texts& texts, std::uint64_t num_logits) const {
  const portabert_shape& shape = model.shape;
  if (!model.ready) throw Refused("portabert_ready comes before portabert_run");
  if (!texts.input_ids || !texts.token_type_ids || !texts.cu_seqlens) throw Refused("an address is null");
  if (texts.cu_seqlens[0] != 0) throw Refused("cu_seqlens must begin with 0. Got ", texts.cu_seqlens[0], " instead");
  for (int text = 0; text < texts.end; ++text) {
    const std::int64_t length = std::int64_t{texts.cu_seqlens[text + 1]} - texts.cu_seqlens[text];
    if (length < 1 || length > shape.max_length)
      throw Refused("text ", text, " must have between 1 and ", shape.max_length, " tokens. It has ", length);
  }
  for (int i = 0; i < texts.tokens(); ++i) {
    if (texts.input_ids[i] < 0 || texts.input_ids[i] >= shape.vocabulary)
      throw Refused("token ids must be between 0 and ", shape.vocabulary - 1, ". Got ", texts.input_ids[i], " at token ", i, " instead");
    if (shape.types > 1 && (texts.token_type_ids[i] < 0 || texts.token_type_ids[i] >= shape.types))
      throw Refused("token types must be between 0 and ", shape.types - 1, ". Got ", texts.token_type_ids[i], " at token ", i, " instead");
  }
  const std::uint64_t rows = shape.per_token ? texts.tokens() : texts.count();
  if (num_logits != rows * static_cast<std::uint64_t>(model.num_labels()))
    throw Refused("logits must have room for ", rows, " × ", model.num_labels(), " floats. Got ", num_logits, " instead");
}

float* portabert_model::logits_of(const Texts& texts, float* logits) const {
  const std::int64_t row = model.shape.per_token ? texts.cu_seqlens[texts.begin] : texts.begin;
  return logits + row * model.num_labels();
}

void portabert_model::run_together(const Texts& texts, float* logits) {
  for (const Texts& chunk : cut(texts, num_chunks(texts, kChunkTokens * team.size()))) {
    spaces[0].reserve(model, chunk.tokens(), longest(chunk), team.size());
    Barrier barrier(team.size());
    team.run([&](int index) { encode(model, kernels, chunk, spaces[0], {index, team.size(), &barrier}, logits_of(chunk, logits)); });
  }
}

void portabert_model::run_apart(const Texts& texts, float* logits) {
  // As many chunks for each thread: three on two threads would take as long as four.
  const std::vector<Texts> chunks = cut(texts, padded(num_chunks(texts, kChunkTokens), team.size()));
  int most_tokens = 0;
  for (const Texts& chunk : chunks) most_tokens = std::max(most_tokens, chunk.tokens());
  for (Workspace& space : spaces) space.reserve(model, most_tokens, longest(texts), 1);
  std::atomic<std::size_t> next{0};
  const auto compute = [&](int index) {
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < chunks.size();)
      encode(model, kernels, chunks[i], spaces[index], {}, logits_of(chunks[i], logits));
  };
  chunks.size() == 1 ? compute(0) : team.run(compute);
}

int portabert_abi(void) { return PORTABERT_ABI; }

const char* portabert_instruction_sets(void) {
  static const std::string names = [] {
    std::string found;
    for (const InstructionSet& set : instruction_sets())
      if (set.here()) found.append(found.empty() ? "" : " ").append(set.kernels->name);
    return found;
  }();
  return names.c_str();
}

const char* portabert_error(void) { return last_error.c_str(); }

portabert_model* portabert_open(const portabert_shape* shape, const char* instruction_set, int32_t threads) {
  portabert_model* opened = nullptr;
  guarded([&] {
    if (!shape || !instruction_set) throw Refused("an address is null");
    if (threads < 1 || threads > kMaxThreads)
      throw Refused("threads must be between 1 and ", kMaxThreads, ". Got ", threads, " instead");
    const Kernels* kernels = find_kernels(instruction_set);
    if (!kernels)
      throw Refused("this processor has the instruction sets ", portabert_instruction_sets(), ". Got '", instruction_set, "' instead");
    opened = new portabert_model(*shape, *kernels, threads);
  });
  return opened;
}

void portabert_close(portabert_model* model) { delete model; }

int portabert_set(portabert_model* model, const char* name, const void* data, uint64_t bytes) {
  return guarded([&] {
    if (!model || !name) throw Refused("an address is null");
    model->model.set(name, data, bytes);
  });
}

int portabert_tensor(const portabert_model* model, int32_t index, const char** name, uint64_t* bytes, int32_t* optional) {
  return guarded([&] {
    if (!model || !name || !bytes || !optional) throw Refused("an address is null");
    const auto& slots = model->model.slots();
    if (index < 0 || static_cast<std::size_t>(index) >= slots.size()) throw Refused("there are ", slots.size(), " tensors. Got ", index, " instead");
    const auto& [found, slot] = *std::next(slots.begin(), index);
    *name = found.c_str(), *bytes = slot.bytes, *optional = slot.optional;
  });
}

int portabert_ready(portabert_model* model) {
  return guarded([&] {
    if (!model) throw Refused("an address is null");
    model->model.finish();
  });
}

const char* portabert_instruction_set(const portabert_model* model) { return model ? model->kernels.name : ""; }

int portabert_run(portabert_model* model, const int64_t* input_ids, const int64_t* token_type_ids, const int32_t* cu_seqlens,
                  int32_t num_texts, int32_t together, float* logits, uint64_t num_logits) {
  return guarded([&] {
    if (!model || !logits) throw Refused("an address is null");
    if (num_texts < 0) throw Refused("num_texts must not be negative. Got ", num_texts, " instead");
    const Texts texts{input_ids, token_type_ids, cu_seqlens, 0, num_texts};
    model->check(texts, num_logits);
    if (!num_texts) return;
    const std::lock_guard<std::mutex> lock(model->one_call);
    together && model->team.size() > 1 ? model->run_together(texts, logits) : model->run_apart(texts, logits);
  });
}
