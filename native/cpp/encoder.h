// The forward pass over packed texts.

#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "kernels.h"
#include "model.h"
#include "team.h"

namespace portabert {

// Packed texts, checked: ids are in the vocabulary, lengths between 1 and the model's.
struct Texts {
  const std::int64_t* input_ids;
  const std::int64_t* token_type_ids;
  const std::int32_t* cu_seqlens;
  int begin, end;  // the texts to compute

  int count() const { return end - begin; }
  int start(int text) const { return cu_seqlens[begin + text] - cu_seqlens[begin]; }  // its first row
  int length(int text) const { return cu_seqlens[begin + text + 1] - cu_seqlens[begin + text]; }
  int tokens() const { return cu_seqlens[end] - cu_seqlens[begin]; }
};

// Memory that only grows, aligned to a cache line, zero to begin with.
template <class Number>
class Buffer {
 public:
  Number* reserve(std::int64_t count);
  Number* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(Number* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };
  std::unique_ptr<Number, Free> memory_;
  std::int64_t count_ = 0;
};

// What a forward pass writes into. One crew uses it at a time.
struct Workspace {
  Buffer<float> embedded, x, context, raised, scales, raised_scales, head, next_head, scratch;
  Buffer<std::uint16_t> query, key_value;
  Buffer<std::uint8_t> bytes, raised_bytes;
  std::int64_t scratch_stride = 0;  // of each member of the crew

  void reserve(const Model& model, int num_tokens, int longest, int crew_size);
};

// Writes the logits of texts: (count, labels), or (tokens, labels) where the head reads every token. All members of a crew call it together, with a workspace that
// was reserved for these texts.
void encode(const Model& model, const Kernels& kernels, const Texts& texts, const Workspace& space, const Crew& crew, float* logits);

}  // namespace portabert
