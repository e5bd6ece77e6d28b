#include "i8mm.h"
#include "instantiate.h"
#include "lanes_neon.h"

namespace portabert {
const Kernels kI8mmKernels = instantiate<Neon>("neon-i8mm", 2 * kPairs, multiply_i8mm<Neon>);
}
