#include "wordpiece.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "refused.h"

namespace portabert {
namespace {

constexpr std::string_view kContinues = "##";
constexpr std::uint32_t kLastCharacter = 0x10FFFF;
constexpr int kFirst = -1, kSecond = -2;  // places of a template where the parts of a text go

// FNV-1a, begun differently for what begins a word and what continues it.
constexpr std::uint64_t kPrime = 0x100000001b3, kBegins = 0xcbf29ce484222325, kGoesOn = 0x84222325cbf29ce4;
constexpr std::uint64_t hashed(std::uint64_t hash, char byte) { return (hash ^ static_cast<unsigned char>(byte)) * kPrime; }

bool is_inside(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// How many bytes the character at the start of a text has, and which it is; 0 where it is no UTF-8.
int decode(std::string_view text, std::uint32_t& character) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return character = first, 1;
  const int size = std::countl_one(first);
  if (size < 2 || size > 4 || static_cast<std::size_t>(size) > text.size()) return 0;
  character = first & (0x7Fu >> size);
  for (int i = 1; i < size; ++i) {
    if (!is_inside(text[i])) return 0;
    character = character << 6 | (static_cast<unsigned char>(text[i]) & 0x3Fu);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = character >= 0xD800 && character <= 0xDFFF;
  return character < least[size] || character > kLastCharacter || surrogate ? 0 : size;
}

void check(const portabert_wordpiece_rules& rules) {
  if (rules.parts < 1 || rules.parts > 2) throw Refused("parts must be 1 or 2. Got ", rules.parts, " instead");
  if (rules.max_characters < 1) throw Refused("max_characters must be 1 or more. Got ", rules.max_characters, " instead");
  if (rules.places < 1 || rules.places > PORTABERT_MAX_PLACES)
    throw Refused("places must be between 1 and ", PORTABERT_MAX_PLACES, ". Got ", rules.places, " instead");
  int found[2] = {};
  for (int i = 0; i < rules.places; ++i) {
    const int id = rules.place_id[i];
    if (id < kSecond) throw Refused("a place must have an id, −1 or −2. Got ", id, " instead");
    if (id < 0) ++found[kFirst - id];
  }
  if (found[0] != 1 || found[1] != rules.parts - 1) throw Refused("a template must have one place for each part of a text");
  if (rules.max_length <= rules.places - 1)
    throw Refused("max_length must be more than ", rules.places - 1, ". Got ", rules.max_length, " instead");
}

}  // namespace

WordPiece::WordPiece(const portabert_wordpiece_rules& rules, std::string_view pieces, const std::int32_t* ids, int count)
    : rules_(rules), pieces_(pieces) {
  check(rules);
  if (pieces.size() > UINT32_MAX) throw Refused("pieces must have less than 4 GiB. They have ", pieces.size(), " bytes");
  room_ = static_cast<std::size_t>(rules.max_length - (rules.places - rules.parts));
  const int bits = std::bit_width(static_cast<unsigned>(count)) + 1;  // at most half of the slots are taken
  slots_.resize(std::size_t{1} << bits);
  shift_ = 64 - bits;
  std::size_t begin = 0;
  for (int i = 0; i < count; ++i) {
    if (begin > pieces.size()) throw Refused("pieces must be ", count, " lines. There are ", i);
    const std::size_t end = std::min(pieces.find('\n', begin), pieces.size());
    std::string_view piece = pieces.substr(begin, end - begin);
    const bool continues = piece.starts_with(kContinues);
    if (continues) piece.remove_prefix(kContinues.size());
    table_.push_back({static_cast<std::uint32_t>(end - piece.size()), static_cast<std::uint32_t>(piece.size()), ids[i], continues});
    longest_ = std::max(longest_, piece.size());
    std::uint64_t hash = continues ? kGoesOn : kBegins;
    for (const char byte : piece) hash = hashed(hash, byte);
    std::size_t slot = hash >> shift_;
    while (slots_[slot].piece >= 0) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = {static_cast<std::uint32_t>(hash), i};
    begin = end + 1;
  }
  if (begin <= pieces.size()) throw Refused("pieces must be ", count, " lines. There are more");
}

void WordPiece::learn(std::uint32_t character, std::string_view utf8, const std::uint8_t* kinds, int count) {
  if (character > kLastCharacter) throw Refused("a character must be between 0 and ", kLastCharacter, ". Got ", character, " instead");
  if (count < 0 || count > UINT16_MAX) throw Refused("a character must become between 0 and ", UINT16_MAX, " others. Got ", count, " instead");
  const auto begin = static_cast<std::uint32_t>(normals_.size());
  for (int i = 0; i < count; ++i) {
    std::uint32_t unused;
    const int size = utf8.empty() ? 0 : decode(utf8, unused);
    if (!size) throw Refused("what character ", character, " becomes must be ", count, " characters in UTF-8");
    if (kinds[i] > static_cast<std::uint8_t>(Kind::left)) throw Refused("a kind must be between 0 and 3. Got ", int{kinds[i]}, " instead");
    Normal normal{{}, static_cast<std::uint8_t>(size), static_cast<Kind>(kinds[i])};
    std::memcpy(normal.bytes, utf8.data(), static_cast<std::size_t>(size));
    normals_.push_back(normal);
    utf8.remove_prefix(static_cast<std::size_t>(size));
  }
  std::unique_ptr<Page>& page = pages_[character >> 8];
  if (!page) page = std::make_unique<Page>();
  (*page)[character & 0xFF] = {begin, static_cast<std::uint16_t>(count), true};
}

void WordPiece::leave(std::string_view string) {
  if (string.empty()) throw Refused("a string that is left to the caller must not be empty");
  left_.emplace_back(string);
  begins_left_[static_cast<unsigned char>(string[0])] = true;
}

portabert_outcome WordPiece::encode(const std::string_view* parts, Tokens& tokens) const {
  tokens.hashes.resize(longest_);
  // Of a text that stands alone nothing is read behind what it has room for; of a pair's parts the other's length matters, too.
  const std::size_t most = rules_.parts == 1 ? room_ : SIZE_MAX;
  for (int part = 0; part < rules_.parts; ++part) {
    tokens.parts[part].clear();
    if (!read(parts[part], most, tokens, tokens.parts[part])) return PORTABERT_LEFT;
  }
  return shorten(tokens) ? PORTABERT_TRUNCATED : PORTABERT_WHOLE;
}

// Reads a text until it has more than `most` tokens. Gives false where it is left to the caller.
bool WordPiece::read(std::string_view text, std::size_t most, Tokens& tokens, std::vector<std::int32_t>& ids) const {
  std::string& word = tokens.word;
  word.clear();
  int characters = 0;
  const auto end_word = [&] {
    if (!word.empty()) cut(tokens, characters, ids);
    word.clear(), characters = 0;
  };
  while (!text.empty()) {
    if (begins_left_[static_cast<unsigned char>(text[0])] && holds_left(text)) return false;
    std::uint32_t character;
    const int size = decode(text, character);
    if (!size) throw Refused("a text is no UTF-8");
    text.remove_prefix(static_cast<std::size_t>(size));
    const Page* page = pages_[character >> 8].get();
    if (!page || !(*page)[character & 0xFF].known) return false;
    const Becomes& becomes = (*page)[character & 0xFF];
    const Normal* const normals = normals_.data() + becomes.begin;
    for (const Normal* normal = normals; normal < normals + becomes.count; ++normal) {
      if (normal->kind == Kind::left) return false;
      if (normal->kind != Kind::letter) end_word();
      if (normal->kind == Kind::space) continue;
      word.append(normal->bytes, normal->size), ++characters;
      if (normal->kind == Kind::sign) end_word();
    }
    if (ids.size() > most) return true;
  }
  end_word();
  return true;
}

bool WordPiece::holds_left(std::string_view rest) const {
  return std::any_of(left_.begin(), left_.end(), [&](const std::string& string) { return rest.starts_with(string); });
}

// Cuts tokens.word, and appends its pieces, or the unknown token.
void WordPiece::cut(Tokens& tokens, int characters, std::vector<std::int32_t>& ids) const {
  const std::string_view word = tokens.word;
  const std::size_t before = ids.size();
  std::size_t begin = characters > rules_.max_characters ? word.size() : 0;
  bool unknown = begin > 0;
  while (begin < word.size()) {
    const std::size_t most = std::min(longest_, word.size() - begin);
    std::uint64_t hash = begin ? kGoesOn : kBegins;
    for (std::size_t i = 0; i < most; ++i) tokens.hashes[i] = hash = hashed(hash, word[begin + i]);
    const Piece* piece = nullptr;
    for (std::size_t size = most; size && !piece; --size) {
      if (begin + size < word.size() && is_inside(word[begin + size])) continue;
      piece = find(tokens.hashes[size - 1], word.substr(begin, size), begin > 0);
    }
    if ((unknown = !piece)) break;
    ids.push_back(piece->id);
    begin += piece->size;
  }
  if (!unknown) return;
  ids.resize(before);
  ids.push_back(rules_.unknown);
}

const WordPiece::Piece* WordPiece::find(std::uint64_t hash, std::string_view text, bool continues) const {
  for (std::size_t slot = hash >> shift_; slots_[slot].piece >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].check != static_cast<std::uint32_t>(hash)) continue;
    const Piece& piece = table_[slots_[slot].piece];
    if (piece.continues == continues && std::string_view(pieces_).substr(piece.begin, piece.size) == text) return &piece;
  }
  return nullptr;
}

// Cuts tokens off the end of the longer part, then of both: tokenizers' strategy "longest_first".
bool WordPiece::shorten(Tokens& tokens) const {
  auto& [first, second] = tokens.parts;
  if (first.size() + second.size() <= room_) return false;
  if (rules_.parts == 1) return first.resize(room_), true;
  auto& shorter = first.size() > second.size() ? second : first;
  auto& longer = &shorter == &first ? second : first;
  if (2 * shorter.size() <= room_) return longer.resize(room_ - shorter.size()), true;
  shorter.resize(room_ / 2), longer.resize(room_ - room_ / 2);
  return true;
}

void WordPiece::write(const Tokens& tokens, std::int64_t* input_ids, std::int64_t* token_type_ids) const {
  for (int place = 0; place < rules_.places; ++place) {
    const std::int32_t id = rules_.place_id[place];
    const std::int32_t* begin = &rules_.place_id[place];
    std::size_t count = 1;
    if (id < 0) begin = tokens.parts[kFirst - id].data(), count = tokens.parts[kFirst - id].size();
    input_ids = std::copy(begin, begin + count, input_ids);
    token_type_ids = std::fill_n(token_type_ids, count, rules_.place_type[place]);
  }
}

}  // namespace portabert
