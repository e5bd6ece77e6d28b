#include <mutex>
#include <shared_mutex>

#include "portabert.h"
#include "refused.h"
#include "wordpiece.h"

using namespace portabert;

struct portabert_wordpiece {
  WordPiece wordpiece;
  std::shared_mutex learning;  // held alone by what changes it
};

portabert_wordpiece* portabert_wordpiece_open(const portabert_wordpiece_rules* rules, const char* pieces, uint64_t bytes, const int32_t* ids,
                                              int32_t num_pieces) {
  portabert_wordpiece* opened = nullptr;
  guarded([&] {
    if (!rules || !pieces || !ids) throw Refused("an address is null");
    if (num_pieces < 1) throw Refused("num_pieces must be 1 or more. Got ", num_pieces, " instead");
    opened = new portabert_wordpiece{WordPiece(*rules, {pieces, bytes}, ids, num_pieces), {}};
  });
  return opened;
}

void portabert_wordpiece_close(portabert_wordpiece* wordpiece) { delete wordpiece; }

int portabert_wordpiece_learn(portabert_wordpiece* wordpiece, uint32_t character, const char* utf8, uint64_t bytes, const uint8_t* kinds,
                              int32_t num_characters) {
  return guarded([&] {
    if (!wordpiece || !utf8 || !kinds) throw Refused("an address is null");
    const std::lock_guard lock(wordpiece->learning);
    wordpiece->wordpiece.learn(character, {utf8, bytes}, kinds, num_characters);
  });
}

int portabert_wordpiece_leave(portabert_wordpiece* wordpiece, const char* string, uint64_t bytes) {
  return guarded([&] {
    if (!wordpiece || !string) throw Refused("an address is null");
    const std::lock_guard lock(wordpiece->learning);
    wordpiece->wordpiece.leave({string, bytes});
  });
}

int portabert_wordpiece_encode(portabert_wordpiece* wordpiece, const char* texts, const uint64_t* ends, int32_t num_texts, int64_t* input_ids,
                               int64_t* token_type_ids, uint64_t room, int32_t* cu_seqlens, uint8_t* outcomes) {
  return guarded([&] {
    if (!wordpiece || !texts || !ends || !input_ids || !token_type_ids || !cu_seqlens || !outcomes) throw Refused("an address is null");
    if (num_texts < 0) throw Refused("num_texts must not be negative. Got ", num_texts, " instead");
    const std::shared_lock lock(wordpiece->learning);
    const WordPiece& wordpieces = wordpiece->wordpiece;
    WordPiece::Tokens tokens;
    std::uint64_t begin = 0, count = 0;
    cu_seqlens[0] = 0;
    for (int text = 0; text < num_texts; ++text) {
      std::string_view parts[2];
      for (int part = 0; part < wordpieces.parts(); ++part) {
        const std::uint64_t end = *ends++;
        if (end < begin) throw Refused("part ", part, " of text ", text, " ends before it begins");
        parts[part] = {texts + begin, end - begin};
        begin = end;
      }
      const portabert_outcome outcome = wordpieces.encode(parts, tokens);
      outcomes[text] = static_cast<std::uint8_t>(outcome);
      if (outcome != PORTABERT_LEFT) {
        const std::size_t length = wordpieces.length(tokens);
        if (length > room - count || count + length > INT32_MAX) throw Refused("there is no room for the tokens of text ", text);
        wordpieces.write(tokens, input_ids + count, token_type_ids + count);
        count += length;
      }
      cu_seqlens[text + 1] = static_cast<std::int32_t>(count);
    }
  });
}
