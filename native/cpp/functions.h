// Functions of lanes. Coefficients are of tools/fit_polynomials.py.

#pragma once

#include "kernels.h"
#include "unroll.h"

namespace portabert {
namespace {

template <class Lanes, int N>
PORTABERT_INLINE inline typename Lanes::Floats polynomial(typename Lanes::Floats x, const float (&coefficients)[N]) {
  auto result = Lanes::broadcast(coefficients[N - 1]);
  unroll<N - 1>([&](auto i) PORTABERT_INLINE { result = Lanes::multiply_add(result, x, Lanes::broadcast(coefficients[N - 2 - i])); });
  return result;
}

// e^x for x ≤ 0, with a relative error of 2e-7; below e^-87 it is e^-87, so that nothing is denormal.
template <class Lanes>
PORTABERT_INLINE inline typename Lanes::Floats exponential(typename Lanes::Floats x) {
  constexpr float log2_e = 1.44269504f;
  constexpr float two_to_f[] = {1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151579f, 0.00132647355f};
  x = Lanes::multiply(Lanes::larger(x, Lanes::broadcast(-87.0f)), Lanes::broadcast(log2_e));
  const auto whole = Lanes::round(x);
  return Lanes::multiply(polynomial<Lanes>(Lanes::subtract(x, whole), two_to_f), Lanes::power_of_two(whole));
}

// x · Φ(x), as what is above 0 of x less s · (1 − Φ(s)) with s = |x|, at most 4: within 2e-4 of it, a 35th of the least step that int8 gives it.
template <class Lanes>
PORTABERT_INLINE inline typename Lanes::Floats gelu(typename Lanes::Floats x, const float (&minus_tail)[7]) {
  const auto s = Lanes::smaller(Lanes::magnitude(x), Lanes::broadcast(4.0f));
  return Lanes::multiply_add(s, polynomial<Lanes>(s, minus_tail), Lanes::larger(x, Lanes::broadcast(0.0f)));
}

constexpr float kGelu[7] = {-0.500493824f, 0.390828162f, 0.0427940562f, -0.139960989f, 0.0575631298f, -0.00992110558f, 0.000642833998f};
constexpr float kGeluTanh[7] = {-0.500715792f, 0.392709255f, 0.0383152068f, -0.136008471f, 0.0559854023f, -0.00962831732f, 0.000622202468f};

template <class Lanes>
PORTABERT_INLINE inline typename Lanes::Floats tanh(typename Lanes::Floats x) {
  // Of the magnitude, whose exponential does not overflow: (1 − e^−2|x|) / (1 + e^−2|x|), with x's sign.
  const auto power = exponential<Lanes>(Lanes::multiply(Lanes::magnitude(x), Lanes::broadcast(-2.0f)));
  const auto one = Lanes::broadcast(1.0f);
  const auto found = Lanes::divide(Lanes::subtract(one, power), Lanes::add(one, power));
  const auto tiny = Lanes::broadcast(1e-30f);
  return Lanes::multiply(found, Lanes::divide(x, Lanes::larger(Lanes::magnitude(x), tiny)));
}

template <class Lanes>
PORTABERT_INLINE inline typename Lanes::Floats apply(Activation activation, typename Lanes::Floats x) {
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
