// Which kernels this processor can run.

#pragma once

#include <span>

#include "kernels.h"

namespace portabert {

struct InstructionSet {
  const Kernels* kernels;
  bool (*here)();  // whether processor and operating system have it
};

// Those that were compiled in, fastest first; scalar and what emulates others run everywhere.
std::span<const InstructionSet> instruction_sets();

// By name; the fastest that is here for an empty name; null where there is none such, or it is not here.
const Kernels* find_kernels(const char* name);

}  // namespace portabert
