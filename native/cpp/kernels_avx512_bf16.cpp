#include "instantiate.h"
#include "lanes_avx512.h"

namespace portabert {
const Kernels kAvx512Bf16Kernels = instantiate<Avx512Bf16>();
}
