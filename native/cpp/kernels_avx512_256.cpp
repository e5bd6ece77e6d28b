#include "instantiate.h"
#include "lanes_avx2.h"

namespace portabert {
const Kernels kAvx512Of256Kernels = instantiate<AvxVnni>("avx512-vnni-256");
}
