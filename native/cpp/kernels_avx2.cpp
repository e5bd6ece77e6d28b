#include "instantiate.h"
#include "lanes_avx2.h"

namespace portabert {
const Kernels kAvx2Kernels = instantiate<Avx2>();
}
