// Functions of lanes. Coefficients are of tools/fit_polynomials.py.

#pragma once

#include "kernels.h"

namespace portabert {
namespace {

template <class Lanes, int N>
typename Lanes::Floats polynomial(typename Lanes::Floats x, const float (&coefficients)[N]) {
  auto result = Lanes::broadcast(coefficients[N - 1]);
  for (int i = N - 2; i >= 0; --i) result = Lanes::multiply_add(result, x, Lanes::broadcast(coefficients[i]));
  return result;
}

// e^x for x ≤ 0, with a relative error of 2e-7; below e^-87 it is e^-87, so that nothing is denormal.
template <class Lanes>
typename Lanes::Floats exponential(typename Lanes::Floats x) {
  constexpr float log2_e = 1.44269504f;
  constexpr float two_to_f[] = {1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151579f, 0.00132647355f};
  x = Lanes::multiply(Lanes::larger(x, Lanes::broadcast(-87.0f)), Lanes::broadcast(log2_e));
  const auto whole = Lanes::round(x);
  return Lanes::multiply(polynomial<Lanes>(Lanes::subtract(x, whole), two_to_f), Lanes::power_of_two(whole));
}

// x · Φ(x), as x · (½ + u · P((u / 4.4)²)) with u = x kept within ±4.4: within 4e-5 of it, a 180th of the least step that int8 gives it.
template <class Lanes>
typename Lanes::Floats gelu(typename Lanes::Floats x, const float (&coefficients)[9]) {
  constexpr float limit = 4.4f;
  const auto u = Lanes::larger(Lanes::smaller(x, Lanes::broadcast(limit)), Lanes::broadcast(-limit));
  const auto t = Lanes::multiply(Lanes::multiply(u, u), Lanes::broadcast(1 / (limit * limit)));
  return Lanes::multiply(x, Lanes::multiply_add(u, polynomial<Lanes>(t, coefficients), Lanes::broadcast(0.5f)));
}

constexpr float kGelu[9] = {0.3987616f,   -1.27923965f, 3.61429954f,  -7.65535688f, 11.8416719f,
                            -12.8503962f, 9.16627407f,  -3.82681489f, 0.704436123f};
constexpr float kGeluTanh[9] = {0.398711026f, -1.28359926f, 3.67471647f, -7.95791578f, 12.630579f,
                                -14.0400839f, 10.215003f,   -4.32960987f, 0.805835605f};

template <class Lanes>
typename Lanes::Floats tanh(typename Lanes::Floats x) {
  // Of the magnitude, whose exponential does not overflow: (1 − e^−2|x|) / (1 + e^−2|x|), with x's sign.
  const auto power = exponential<Lanes>(Lanes::multiply(Lanes::magnitude(x), Lanes::broadcast(-2.0f)));
  const auto one = Lanes::broadcast(1.0f);
  const auto found = Lanes::divide(Lanes::subtract(one, power), Lanes::add(one, power));
  const auto tiny = Lanes::broadcast(1e-30f);
  return Lanes::multiply(found, Lanes::divide(x, Lanes::larger(Lanes::magnitude(x), tiny)));
}

template <class Lanes>
typename Lanes::Floats apply(Activation activation, typename Lanes::Floats x) {
  switch (activation) {
    case Activation::gelu:
      return gelu<Lanes>(x, kGelu);
    case Activation::gelu_tanh:
      return gelu<Lanes>(x, kGeluTanh);
    case Activation::relu:
      return Lanes::larger(x, Lanes::broadcast(0.0f));
    case Activation::tanh:
      return tanh<Lanes>(x);
    case Activation::none:
      break;
  }
  return x;
}

}  // namespace
}  // namespace portabert
