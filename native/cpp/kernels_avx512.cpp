#include "instantiate.h"
#include "lanes_avx512.h"

namespace portabert {
const Kernels kAvx512Kernels = instantiate<Avx512>();
}
