#include "instantiate.h"
#include "lanes_avx2.h"

namespace portabert {
const Kernels kAvxVnniKernels = instantiate<AvxVnni>("avx-vnni");
}
