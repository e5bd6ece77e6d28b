// N times 16 floats that go through the same steps side by side. A chain of steps waits for its own results; a processor looks only so far ahead for other work,
// and finds it here at once.

#pragma once

#include "kernels.h"
#include "unroll.h"

namespace portabert {
namespace {

template <class Lanes, int N>
struct Abreast {
  struct Floats {
    typename Lanes::Floats part[N];
  };

  // function(i) gives part i.
  template <class Function>
  PORTABERT_INLINE static Floats each(Function function) {
    Floats result;
    unroll<N>([&](auto i) PORTABERT_INLINE { result.part[i] = function(i); });
    return result;
  }

  PORTABERT_INLINE static Floats broadcast(float value) {
    const auto one = Lanes::broadcast(value);
    return each([&](int) PORTABERT_INLINE { return one; });
  }
  PORTABERT_INLINE static Floats add(Floats a, Floats b) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::add(a.part[i], b.part[i]); });
  }
  PORTABERT_INLINE static Floats subtract(Floats a, Floats b) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::subtract(a.part[i], b.part[i]); });
  }
  PORTABERT_INLINE static Floats multiply(Floats a, Floats b) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::multiply(a.part[i], b.part[i]); });
  }
  PORTABERT_INLINE static Floats divide(Floats a, Floats b) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::divide(a.part[i], b.part[i]); });
  }
  PORTABERT_INLINE static Floats multiply_add(Floats a, Floats b, Floats c) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::multiply_add(a.part[i], b.part[i], c.part[i]); });
  }
  PORTABERT_INLINE static Floats larger(Floats a, Floats b) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::larger(a.part[i], b.part[i]); });
  }
  PORTABERT_INLINE static Floats smaller(Floats a, Floats b) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::smaller(a.part[i], b.part[i]); });
  }
  PORTABERT_INLINE static Floats magnitude(Floats a) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::magnitude(a.part[i]); });
  }
  PORTABERT_INLINE static Floats round(Floats a) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::round(a.part[i]); });
  }
  PORTABERT_INLINE static Floats power_of_two(Floats a) {
    return each([&](int i) PORTABERT_INLINE { return Lanes::power_of_two(a.part[i]); });
  }
};

// Calls function(Index<N>{}, first) for each N of `count` things, and function(Index<1>{}, i) for each of the rest.
template <int N, class Function>
PORTABERT_INLINE inline void in_groups(int count, Function function) {
  const int groups = count / N;
  for (int group = 0; group < groups; ++group) function(Index<N>{}, group * N);
  for (int i = groups * N; i < count; ++i) function(Index<1>{}, i);
}

}  // namespace
}  // namespace portabert
