// WordPiece: texts to token ids, as BERT's normaliser, pre-tokeniser and model have it.
//
//     "Déjà-vu"  ──►  characters  d e j a │ - │ v u     each replaced by what it becomes; spaces and signs end a word
//                ──►  pieces      de ##ja │ - │ vu      of a word the longest piece that begins it, then the longest that continues it, …
//                ──►  template    [CLS] de ##ja - vu [SEP]
//
// What a character becomes is told by the caller, who asks the tokenizer that is to be matched: no table of Unicode is kept here, and none can be of another
// version. A text with a character that nobody told of, or with a string that the tokenizer takes out before all else ("[SEP]"), is left to the caller.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "portabert.h"

namespace portabert {

class WordPiece {
 public:
  // Throws Refused if the rules are none that texts can be cut by.
  WordPiece(const portabert_wordpiece_rules& rules, std::string_view pieces, const std::int32_t* ids, int count);

  // What a character becomes: some characters, each of a kind.
  void learn(std::uint32_t character, std::string_view utf8, const std::uint8_t* kinds, int count);

  // A text that holds this is left to the caller.
  void leave(std::string_view string);

  int parts() const { return rules_.parts; }

  struct Tokens {
    std::vector<std::int32_t> parts[2];  // of each part of a text
    std::string word;
    std::vector<std::uint64_t> hashes;  // of a word's beginnings
  };
  // Cuts one text of parts() parts into tokens.part. Throws Refused if one is no UTF-8.
  portabert_outcome encode(const std::string_view* parts, Tokens& tokens) const;

  // The number of tokens that `encode` gave, special ones included.
  std::size_t length(const Tokens& tokens) const { return rules_.places - rules_.parts + tokens.parts[0].size() + tokens.parts[1].size(); }

  // Writes them, with the special ones around them.
  void write(const Tokens& tokens, std::int64_t* input_ids, std::int64_t* token_type_ids) const;

 private:
  enum class Kind : std::uint8_t { letter, space, sign, left };
  struct Normal {  // a character after normalising
    char bytes[4];
    std::uint8_t size;
    Kind kind;
  };
  struct Becomes {  // normals_[begin] …
    std::uint32_t begin = 0;
    std::uint16_t count = 0;
    bool known = false;
  };
  struct Piece {
    std::uint32_t begin, size;  // in pieces_, without "##"
    std::int32_t id;
    bool continues;
  };
  struct Slot {  // of a hash table with open addressing
    std::uint32_t check = 0;
    std::int32_t piece = -1;
  };
  using Page = std::array<Becomes, 256>;

  bool holds_left(std::string_view rest) const;
  bool read(std::string_view text, std::size_t most, Tokens& tokens, std::vector<std::int32_t>& ids) const;
  void cut(Tokens& tokens, int characters, std::vector<std::int32_t>& ids) const;
  const Piece* find(std::uint64_t hash, std::string_view text, bool continues) const;
  bool shorten(Tokens& tokens) const;

  portabert_wordpiece_rules rules_;
  std::size_t room_;  // for tokens that are not special
  std::string pieces_;
  std::vector<Piece> table_;
  std::vector<Slot> slots_;
  int shift_;                // of a hash, to the number of its slot
  std::size_t longest_ = 0;  // piece, in bytes
  std::array<std::unique_ptr<Page>, 0x1100> pages_;
  std::vector<Normal> normals_;
  std::vector<std::string> left_;
  std::array<bool, 256> begins_left_{};
};

}  // namespace portabert
