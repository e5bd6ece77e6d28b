// What a caller did wrong, and how it becomes an error of the C interface.

#pragma once

#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

namespace portabert {

// What is refused, for people: the parts of a sentence.
struct Refused : std::runtime_error {
  template <class... Parts>
  explicit Refused(const Parts&... parts) : std::runtime_error(sentence(parts...)) {}

 private:
  template <class... Parts>
  static std::string sentence(const Parts&... parts) {
    std::ostringstream words;
    (words << ... << parts);
    return words.str();
  }
};

inline thread_local std::string last_error;  // what portabert_error() says

// Calls a function, and turns what it throws into an error for people. Gives 0, or −1.
template <class Function>
int guarded(Function function) noexcept {
  try {
    function();
    return 0;
  } catch (const std::bad_alloc&) {
    last_error = "there is not enough memory";
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  return -1;
}

}  // namespace portabert
