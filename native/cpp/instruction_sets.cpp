#include "instruction_sets.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace portabert {

namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers ask(unsigned leaf, unsigned subleaf) {
  Registers found;
  __get_cpuid_count(leaf, subleaf, &found.eax, &found.ebx, &found.ecx, &found.edx);
  return found;
}

constexpr bool has(unsigned bits, int bit) { return bits >> bit & 1; }

// The register state that the operating system saves: bits 1 and 2 are AVX's, 5 to 7 AVX-512's.
std::uint64_t saved_state() {
  if (!has(ask(1, 0).ecx, 27)) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

bool has_avx2() {
  const Registers features = ask(1, 0), more = ask(7, 0);
  return (saved_state() & 0x6) == 0x6 && has(features.ecx, 12) /* FMA */ && has(more.ebx, 5);
}

bool has_avx_vnni() { return has_avx2() && has(ask(7, 1).eax, 4); }

bool has_avx512_vnni() {
  const Registers more = ask(7, 0);
  const bool foundation = has(more.ebx, 16) && has(more.ebx, 17) /* DQ */ && has(more.ebx, 30) /* BW */;
  return has_avx2() && (saved_state() & 0xe6) == 0xe6 && foundation && has(more.ebx, 31) /* VL */ && has(more.ecx, 11);
}

bool has_avx512_bf16() { return has_avx512_vnni() && has(ask(7, 1).eax, 5); }

// Tiles are 8 KB of state a thread, which Linux gives to a process that asks for it.
bool has_amx() {
  constexpr int request_permission = 0x1023, tile_data = 18;
  const unsigned features = ask(7, 0).edx;
  return has_avx512_bf16() && has(features, 24) && has(features, 25) && (saved_state() & 0x60000) == 0x60000 &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#elif defined(__aarch64__)
#if defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  std::size_t size = sizeof value;
  return !sysctlbyname(name, &value, &size, nullptr, 0) && value;
}
bool has_dot_product() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_dot_product() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dot_product() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
bool has_i8mm() { return has_dot_product() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM); }
#endif
#endif

bool always() { return true; }

}  // namespace

std::span<const InstructionSet> instruction_sets() {
  static constexpr InstructionSet sets[] = {
#if defined(__x86_64__)
      {&kAmxKernels, has_amx},
      {&kAvx512Bf16Kernels, has_avx512_bf16},
      {&kAvx512Kernels, has_avx512_vnni},
      {&kAvxVnniKernels, has_avx_vnni},
      {&kAvx512Of256Kernels, has_avx512_vnni},
      {&kAvx2Kernels, has_avx2},
#elif defined(__aarch64__)
      {&kI8mmKernels, has_i8mm},
      {&kNeonKernels, has_dot_product},
#endif
      {&kScalarKernels, always},
      {&kAmxEmulatedKernels, always},
  };
  return sets;
}

const Kernels* find_kernels(const char* name) {
  for (const InstructionSet& set : instruction_sets())
    if ((!*name || !std::strcmp(name, set.kernels->name)) && set.here()) return set.kernels;
  return nullptr;
}

}  // namespace portabert
