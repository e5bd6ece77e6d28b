#include "instantiate.h"
#include "lanes_neon.h"

namespace portabert {
const Kernels kNeonKernels = instantiate<Neon>();
}
