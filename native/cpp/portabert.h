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

#define PORTABERT_ABI 2
#define PORTABERT_API __attribute__((visibility("default")))
#define PORTABERT_MAX_STEPS 4
#define PORTABERT_MAX_PLACES 8

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

/* Texts to token ids, for models whose tokenizer is WordPiece as BERT has it; cpp/wordpiece.h says how.

   wordpiece = portabert_wordpiece_open(&rules, pieces, bytes, ids, num_pieces);
   portabert_wordpiece_learn(wordpiece, 'A', "a", 1, kinds, 1)   once for each character; unknown ones may be learnt later, between calls or beside them
   portabert_wordpiece_leave(wordpiece, "[SEP]", 5)              once for each string that the tokenizer takes out before all else
   portabert_wordpiece_encode(wordpiece, …)                      as often as wanted, from any number of threads at once
   portabert_wordpiece_close(wordpiece) */
typedef struct portabert_wordpiece_rules {
  int32_t unknown;        /* the id of a word that has no pieces */
  int32_t max_characters; /* of a word; a longer one is unknown */
  int32_t max_length;     /* tokens of a text, special ones included; of a longer one the end is cut off, of a pair the longer part's first */
  int32_t parts;          /* of a text: 1, or 2 where texts are pairs */
  int32_t places;         /* of the template: special tokens, and where the parts go */
  int32_t place_id[PORTABERT_MAX_PLACES];   /* a special token's id, −1 for the first part, −2 for the second */
  int32_t place_type[PORTABERT_MAX_PLACES]; /* the type of its tokens */
} portabert_wordpiece_rules;

/* What became of a text. One that was left has no tokens. */
typedef enum portabert_outcome { PORTABERT_WHOLE, PORTABERT_TRUNCATED, PORTABERT_LEFT } portabert_outcome;

typedef struct portabert_wordpiece portabert_wordpiece;

/* pieces: num_pieces lines of UTF-8, of which ## begins those that continue a word; ids: of each. NULL after an error. */
PORTABERT_API portabert_wordpiece* portabert_wordpiece_open(const portabert_wordpiece_rules* rules, const char* pieces, uint64_t bytes,
                  const int32_t* ids, int32_t num_pieces);
PORTABERT_API void portabert_wordpiece_close(portabert_wordpiece* wordpiece);
/* What a character becomes: num_characters in `bytes` bytes of UTF-8, each of a kind: 0 part of a word, 1 a space, 2 a word of its own, 3 one that texts are left for. */
PORTABERT_API int portabert_wordpiece_learn(portabert_wordpiece* wordpiece, uint32_t character, const char* utf8, uint64_t bytes, const uint8_t* kinds,
                  int32_t num_characters);
PORTABERT_API int portabert_wordpiece_leave(portabert_wordpiece* wordpiece, const char* string, uint64_t bytes);
/* Encodes num_texts texts. texts: their parts in UTF-8, one after the other; ends: where each part ends, parts · num_texts of them. input_ids, token_type_ids: room for
   `room` tokens, max_length · num_texts being enough. cu_seqlens: num_texts + 1; text i becomes input_ids[cu_seqlens[i]] … (exclusive) input_ids[cu_seqlens[i + 1]].
   outcomes: num_texts, each a portabert_outcome. */
PORTABERT_API int portabert_wordpiece_encode(portabert_wordpiece* wordpiece, const char* texts, const uint64_t* ends, int32_t num_texts, int64_t* input_ids,
                  int64_t* token_type_ids, uint64_t room, int32_t* cu_seqlens, uint8_t* outcomes);

#ifdef __cplusplus
}
#endif

#endif
