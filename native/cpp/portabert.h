/* The C interface of portabert's CPU engine. It trusts nobody: sizes, ids and lengths are checked before use, and whatever is refused is said by portabert_error().

   model = portabert_open(&shape, "", 2);              shape only: no weight is read
   portabert_set(model, "layer_0_up_int8", data, bytes) once for each tensor; the data stays the caller's, and stays where it is until the model is closed
   portabert_ready(model)                              all there?
   portabert_run(model, …)                             as often as wanted, from any thread; calls wait for one another
   portabert_close(model)

   Functions that give an int give 0, or −1 after an error. */

#ifndef PORTABERT_H
#define PORTABERT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PORTABERT_ABI 1
#define PORTABERT_API __attribute__((visibility("default")))
#define PORTABERT_MAX_STEPS 4

/* What an encoder is; all tensors follow from it. The names and forms of tensors are in docs/native.md. */
typedef struct portabert_shape {
  int32_t vocabulary;   /* rows of `words` */
  int32_t positions;    /* rows of `positions`, for each type of token */
  int32_t types;        /* of tokens, 1 or more */
  int32_t max_length;   /* tokens of a text */
  int32_t padding_idx;  /* −1 where positions count 0, 1, 2 …; else they count from padding_idx + 1 over tokens that are not padding_idx */
  int32_t embedding;    /* width of the tables */
  int32_t hidden;       /* width of the layers */
  int32_t heads;
  int32_t head_size;
  int32_t intermediate; /* width between the feed-forward products */
  int32_t layers;
  int32_t precision;    /* of products: 0 int8, 1 bf16 */
  int32_t activation;   /* of the feed-forward part: 1 GELU, 2 GELU by tanh, 3 ReLU */
  int32_t zero_point;   /* of what comes out of it, quantised */
  float floor;          /* the least scale of that; below 0 where rows are symmetric */
  int32_t relative;     /* 1 where scores have a relative bias */
  int32_t per_token;    /* 1 where the head reads every token, 0 for the first of each text */
  int32_t steps;        /* products of the head */
  int32_t step_width[PORTABERT_MAX_STEPS];
  int32_t step_activation[PORTABERT_MAX_STEPS]; /* 0 none, 1 GELU, 2 GELU by tanh, 3 ReLU, 4 tanh */
} portabert_shape;

typedef struct portabert_model portabert_model;

PORTABERT_API int portabert_abi(void);

/* Names of the instruction sets this processor has, fastest first, separated by spaces. */
PORTABERT_API const char* portabert_instruction_sets(void);

/* What went wrong last in this thread. */
PORTABERT_API const char* portabert_error(void);

/* instruction_set: one of the names above, or "" for the fastest. threads: 1 or more. NULL after an error. */
PORTABERT_API portabert_model* portabert_open(const portabert_shape* shape, const char* instruction_set, int32_t threads);
PORTABERT_API void portabert_close(portabert_model* model);
PORTABERT_API int portabert_set(portabert_model* model, const char* name, const void* data, uint64_t bytes);
/* What tensors there are to set: the name and bytes of number `index`, and whether one can do without it. 0, or −1 where there are no more. A weight has two forms, `name`
   and `name_int8` with `name_scale` and `name_sum` (in a model of bf16 `name_bf16`), of which one is set. Names live as long as the model. */
PORTABERT_API int portabert_tensor(const portabert_model* model, int32_t index, const char** name, uint64_t* bytes, int32_t* optional);
PORTABERT_API int portabert_ready(portabert_model* model);
PORTABERT_API const char* portabert_instruction_set(const portabert_model* model);

/* Computes num_texts packed texts: text i is input_ids[cu_seqlens[i]] … input_ids[cu_seqlens[i + 1]] (exclusive). logits: num_logits floats, num_texts · labels, or
   tokens · labels from a head that reads every token. together: 1 where all threads compute each text, 0 where each thread computes texts of its own; the answers are
   the same to the bit. */
PORTABERT_API int portabert_run(portabert_model* model, const int64_t* input_ids, const int64_t* token_type_ids, const int32_t* cu_seqlens, int32_t num_texts,
                  int32_t together, float* logits, uint64_t num_logits);

#ifdef __cplusplus
}
#endif

#endif
