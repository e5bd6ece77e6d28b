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
constexpr Kernels instantiate(const char* name = Lanes::name, int tile_rows = Lanes::kRows,
                              void (*multiply_rows)(const ProductArgs&) = multiply<Lanes>, void (*attend_text)(const AttendArgs&) = attend<Lanes>) {
  return {name, tile_rows, embed<Lanes>, norm<Lanes>, reduce<Lanes>, multiply_rows, attend_text};
}

}  // namespace
}  // namespace portabert
