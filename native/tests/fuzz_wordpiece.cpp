// libFuzzer: vocabularies, rules, characters and texts that nobody checked, through the C interface of WordPiece. Whatever comes, it answers or refuses.

#include <cstdint>
#include <string>
#include <vector>

#include "portabert.h"
#include "reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader{data, size};
  portabert_wordpiece_rules rules;
  reader.fill(&rules, sizeof rules, 8);
  for (std::int32_t& id : rules.place_id)
    if (id < 6) id = -(id % 3);  // parts of a text more often than special tokens
  const std::string pieces = reader.text();
  std::vector<std::int32_t> ids(1 + reader.take<std::uint8_t>() % 32);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  portabert_wordpiece* wordpiece = portabert_wordpiece_open(&rules, pieces.data(), pieces.size(), ids.data(), static_cast<std::int32_t>(ids.size()));
  if (!wordpiece) return 0;
  for (std::uint32_t letter = 'a'; letter <= 'f'; ++letter) {
    const char byte = static_cast<char>(letter);
    const std::uint8_t kind = letter == 'e' ? 1 : letter == 'f' ? 2 : 0;
    portabert_wordpiece_learn(wordpiece, letter, &byte, 1, &kind, 1);
  }
  for (int learnt = reader.take<std::uint8_t>() % 8; learnt > 0; --learnt) {
    const std::string becomes = reader.text();
    const auto character = reader.take<std::uint32_t>() % 0x120000;
    const std::vector<std::uint8_t> kinds(becomes.size() + 1, reader.take<std::uint8_t>() % 5);
    portabert_wordpiece_learn(wordpiece, character, becomes.data(), becomes.size(), kinds.data(), reader.take<std::uint8_t>() % (becomes.size() + 1));
  }
  const std::string left = reader.text();
  portabert_wordpiece_leave(wordpiece, left.data(), left.size());
  std::string texts;
  std::vector<std::uint64_t> ends;
  for (int part = 2 * (reader.take<std::uint8_t>() % 4); part > 0; --part) ends.push_back((texts += reader.text()).size());
  const int num_texts = static_cast<int>(ends.size()) / (rules.parts == 2 ? 2 : 1);
  const std::uint64_t room = reader.take<std::uint8_t>() * 4u;
  std::vector<std::int64_t> input_ids(room + 1), token_type_ids(room + 1);
  std::vector<std::int32_t> cu_seqlens(num_texts + 1);
  std::vector<std::uint8_t> outcomes(num_texts + 1);
  ends.reserve(1);
  portabert_wordpiece_encode(wordpiece, texts.data(), ends.data(), num_texts, input_ids.data(), token_type_ids.data(), room, cu_seqlens.data(),
                             outcomes.data());
  portabert_wordpiece_close(wordpiece);
  return 0;
}
