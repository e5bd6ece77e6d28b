// The table of kernels of one instruction set. Everything it includes lies in an anonymous namespace: code that was compiled for AVX-512 must not be what the linker keeps for
// all others. For the same reason these files use no function of the standard library that is not inlined or C.

#pragma once

#include "attention.h"
#include "kernels.h"
#include "product.h"
#include "rows.h"

namespace portabert {
namespace {

template <class Lanes>
constexpr Kernels instantiate(const char* name = Lanes::name, void (*multiply_rows)(const ProductArgs&) = multiply<Lanes>) {
  return {name, embed<Lanes>, norm<Lanes>, quantize<Lanes>, round_to_bf16<Lanes>, multiply_rows, attend<Lanes>};
}

}  // namespace
}  // namespace portabert
