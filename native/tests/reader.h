// What a fuzzer's input is made into: numbers, structures and texts, zeros behind its end.

#pragma once

#include <cstdint>
#include <cstring>
#include <string>

struct Reader {
  const std::uint8_t* data;
  std::size_t size;

  template <class Number>
  Number take() {
    Number value{};
    const std::size_t count = size < sizeof value ? size : sizeof value;
    std::memcpy(&value, data, count);
    data += count, size -= count;
    return value;
  }

  // Fills a structure of numbers of four bytes: small ones mostly, so that the structure is one that is not refused; a byte in sixteen stands for any number.
  void fill(void* structure, std::size_t bytes, int below) {
    for (std::size_t at = 0; at < bytes; at += 4) {
      const auto small = take<std::uint8_t>();
      const std::int32_t value = small >= 240 ? take<std::int32_t>() : small % below;
      std::memcpy(static_cast<char*>(structure) + at, &value, 4);
    }
  }

  std::string text() {
    const std::size_t count = take<std::uint8_t>() % 64;
    std::string taken(count < size ? count : size, '\0');
    std::memcpy(taken.data(), data, taken.size());
    data += taken.size(), size -= taken.size();
    return taken;
  }
};
