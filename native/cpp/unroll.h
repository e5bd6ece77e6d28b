// Loops of known length that are gone before the optimiser looks. GCC keeps an array of registers in memory where a loop over it is unrolled later than that
// (a third of the speed), whatever a pragma says.

#pragma once

#include <utility>

#define PORTABERT_INLINE __attribute__((always_inline))

namespace portabert {
namespace {

template <int I>
struct Index {
  constexpr operator int() const { return I; }
};

template <class Function, int... I>
PORTABERT_INLINE inline void unroll(Function function, std::integer_sequence<int, I...>) {
  (function(Index<I>{}), ...);
}

// Calls function(Index<0>) … function(Index<N − 1>).
template <int N, class Function>
PORTABERT_INLINE inline void unroll(Function function) {
  unroll(function, std::make_integer_sequence<int, N>{});
}

}  // namespace
}  // namespace portabert
